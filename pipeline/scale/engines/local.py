"""This machine. Rows are mapped over in the stage's own process, whose threads have every core; training processes are
started as ``torchrun`` starts them.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pipeline.core.errors import ServiceError
from pipeline.scale.engine import RESTARTS, Part

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.scale.options import Scale

WATCH_EVERY_S = 0.2
"""How often torchrun's agent looks whether a process has died."""


def check(scale: Scale) -> None:
    """Nothing is needed beyond torch."""


def mapped(
    make: Callable[[], Part], rows: pd.DataFrame, *, part_rows: int, scale: Scale, threads: int, gpu: bool
) -> Iterator[pd.DataFrame]:
    """All rows as one part, so that decoding never has to wait for the end of one."""
    yield from make()(rows)


def together(work: Callable[[int], None], *, scale: Scale, threads: int, backend: str) -> None:
    """By torch's elastic agent, the inside of ``torchrun``; the processes share the threads."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=scale.workers,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=RESTARTS,
        monitor_interval=WATCH_EVERY_S,
        start_method="spawn",
    )
    try:
        elastic_launch(config, _call)(pickle.dumps(work), max(1, threads // scale.workers))
    except ChildFailedError as error:
        raise ServiceError(
            f"The {scale.workers} training processes failed {RESTARTS + 1} times; the last to say why:\n"
            f"{_last_words(error)}"
        ) from error


def _call(work: bytes, threads: int) -> None:
    """In each process. As bytes, because torch would let all of them share the tensors in ``work``, and change them."""
    pickle.loads(work)(threads)  # noqa: S301  # nosec B301 - written by the process that started this one


def _last_words(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "\n".join(lines[-12:])
