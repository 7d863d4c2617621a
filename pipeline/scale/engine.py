"""What an engine can do. A file in :mod:`pipeline.scale.engines` is one, chosen by its name in ``scale.engine``.

Engines know neither features nor training, and no stage's key covers their code: whichever one does the work, its
result is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from pipeline.core import plugins
from pipeline.scale.options import ENGINES, Scale

if TYPE_CHECKING:
    import pandas as pd

RESTARTS = 3
"""So often work goes on after one of its processes has died; what dies a fourth time is not bad luck."""

Part: TypeAlias = "Callable[[pd.DataFrame], Iterator[pd.DataFrame]]"
"""Does some rows of work, and yields small frames that say what was done; the results themselves it has stored."""


class Engine(Protocol):
    """The functions of an engine's module."""

    def check(self, scale: Scale) -> None:
        """Can this engine be used here? Quick: called before each run.

        Raises:
            ParamsError: it cannot, and what to do.
        """

    def mapped(
        self, make: Callable[[], Part], rows: pd.DataFrame, *, part_rows: int, scale: Scale, threads: int, gpu: bool
    ) -> Iterator[pd.DataFrame]:
        """Each process makes its worker once by ``make``; parts of ``rows``, of at most ``part_rows``, are given out
        among ``scale.workers`` of them. What they yield comes back in any order.

        A part whose process died is done anew: doing it twice must give the same. ``threads`` CPU threads each.

        Raises:
            GraftlineError: as raised by a worker.
            ServiceError: workers died too often, or there is no room for them.
        """

    def together(self, work: Callable[[int], None], *, scale: Scale, threads: int, backend: str) -> None:
        """Call ``work(threads each)`` once in each of ``scale.workers`` processes, as ``torchrun`` does: with ``RANK``,
        ``WORLD_SIZE`` and ``LOCAL_RANK`` in the environment, and all of them started anew when one dies.

        Raises:
            ServiceError: they died more than :data:`RESTARTS` times.
        """


def of(scale: Scale) -> Engine:
    """The engine that ``scale`` names."""
    return cast(Engine, plugins.load(ENGINES, scale.engine))


def check(scale: Scale) -> None:
    """:meth:`Engine.check` of the chosen one."""
    of(scale).check(scale)
