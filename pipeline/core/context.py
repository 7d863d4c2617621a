"""What a stage may know of the world: where it is, on what it computes, and where it may keep checkpoints."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pipeline.scale.options import Scale


@dataclass(frozen=True)
class Context:
    """Handed to every stage beside its params and inputs.

    Apart from ``seed`` and ``model``, nothing here may change the result, only how it is reached.
    """

    workspace: Path
    """Root of the workspace; manifest paths are relative to it."""

    seed: int
    """The run's seed; derive streams from it with :func:`pipeline.core.seeding.derive`."""

    model: str = "model"
    """The model's name in the registry."""

    device: str = "auto"
    """``auto`` (CUDA, else MPS, else CPU), or a torch device string."""

    scratch: Path | None = None
    """A folder for checkpoints of exactly this work (same params, inputs and code); it survives a kill and is removed
    when the stage has ended well. None in tests that do not resume."""

    cache: Path | None = None
    """The workspace's content-addressed cache folder, shared by all runs; None keeps nothing."""

    tracking_uri: str | None = None
    """The tracking store's resolved address, where weights kept as an MLflow artifact are looked for; it may hold
    credentials. Not in any key: such weights name their sha256."""

    workers: int = 0
    """Threads for decoding; 0 means one per core that may be used."""

    scale: Scale | None = None
    """Which processes share the work; None does all of it in this one."""

    deadline_s: float | None = None
    """Of a strategy on trial: the reading of ``time.time()``, which machines agree on, after which no epoch begins. In
    no key, as nothing is kept of what it cuts short; None lets training end by itself."""

    def empty_folder(self, name: str) -> Path:
        """An empty folder in which a stage builds an output, before the output is saved into place."""
        if self.scratch is None:
            return Path(tempfile.mkdtemp(prefix=f"graftline-{name}-"))
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)  # what a killed run left there
        folder.mkdir(parents=True)
        return folder


class Result(NamedTuple):
    """What a stage's ``run`` returns."""

    line: str
    """One line for people, with counts and units: ``1,797 images · 10 classes``."""

    outputs: dict[str, object]
    """Values by artefact name; the catalog knows how each is saved."""
