"""What every peer's program shares: its arguments, its clock, and the record it leaves.

The standard library only, since each program runs in the environment of its own library.

The clock starts when the process is asked for (``PEER_STARTED``, seconds since 1970, set by whoever starts it), so that
the interpreter's start and all imports count. What a user would not wait for stands still: laying out the weight file
where the library expects its download, and scoring the test images.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

_IMPORTED = time.time()

SPLITS = ("train", "val", "test")


@dataclass
class Job:
    """One peer's whole job on one folder of images, ``folder/{train,val,test}/CLASS/FILE``."""

    name: str
    folder: Path
    weights: Path
    """resnet18 by torchvision's key names, safetensors."""
    budget_s: float
    """Seconds of the clock after which training ends with the batch at hand."""
    out: Path
    work: Path
    """Everything that is written goes here; a second run finds what the first one left."""
    stop_at: float | None
    """End with the first epoch whose test accuracy, in [0, 1], is at least this."""
    options: argparse.Namespace
    phases: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    _started: float = field(default_factory=lambda: float(os.environ.get("PEER_STARTED", _IMPORTED)))
    _stood_still: float = 0.0
    _standing_since: float | None = None
    _marked: float = 0.0
    _stopped: str | None = None

    @property
    def seconds(self) -> float:
        now = time.time() if self._standing_since is None else self._standing_since
        return now - self._started - self._stood_still

    @property
    def out_of_time(self) -> bool:
        return self.seconds >= self.budget_s

    @property
    def good_enough(self) -> bool:
        """Whether the last epoch scored what the job was told to stop at."""
        return self.stop_at is not None and bool(self.curve) and self.curve[-1]["accuracy"] >= self.stop_at

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        self._standing_since = began = time.time()
        try:
            yield
        finally:
            self._standing_since = None
            self._stood_still += time.time() - began

    def phase_ends(self, name: str) -> None:
        """Book the seconds since the last call under ``name``."""
        now = self.seconds
        self.phases[name] = round(now - self._marked, 2)
        self._marked = now

    def scored(self, epoch: float, accuracy: float) -> None:
        """Note the test accuracy, in [0, 1], after ``epoch`` epochs."""
        self.curve.append({"epoch": epoch, "at_s": round(self.seconds, 2), "accuracy": round(accuracy, 6)})
        print(f"epoch {epoch:g}  {self.curve[-1]['at_s']:.1f} s  test accuracy {accuracy:.1%}", flush=True)

    def training_ended(self, *, complete: bool) -> None:
        """Note why; ``complete``: the recipe came to its own end. What comes after may go past the limit."""
        self._stopped = "accuracy" if self.good_enough else "as documented" if complete else "budget"

    def finish(self, accuracy: float, packages: tuple[str, ...], **more: Any) -> None:
        """Write the record. ``accuracy`` is the test accuracy of the saved model, loaded again.

        Raises:
            RuntimeError: nobody has said how training ended.
        """
        if self._stopped is None:
            raise RuntimeError("finish() before training_ended()")
        record: Mapping[str, Any] = {
            "peer": self.name,
            "versions": {package: metadata.version(package) for package in packages},
            "accuracy": round(accuracy, 6),
            "total_s": round(sum(self.phases.values()), 2),
            "phases_s": self.phases,
            "stopped": self._stopped,
            "curve": self.curve,
            **more,
        }
        self.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.phases.items())
        print(f"{self.name}: test accuracy {accuracy:.1%}, {record['total_s']:.1f} s ({told}); ended: {self._stopped}")


def job_of(name: str, *flags: str) -> Job:
    """The job that the command line asks for; ``flags`` are further options that are on or off."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="train/, val/ and test/, each with class folders")
    parser.add_argument("--weights", type=Path, required=True, help="resnet18 as safetensors, torchvision's key names")
    parser.add_argument("--budget-s", type=float, default=600, help="training ends after so many seconds")
    parser.add_argument("--out", type=Path, default=Path("result.json"))
    parser.add_argument("--work", type=Path, help="a folder for all that is written, kept; default: one that is new")
    parser.add_argument("--stop-at", type=float, help="end after the epoch that reaches this test accuracy, in [0, 1]")
    for flag in flags:
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    missing = [split for split in SPLITS if not (options.folder / split).is_dir()]
    if missing or not options.weights.is_file():
        parser.error(f"no {', '.join(missing)} in {options.folder}" if missing else f"no file {options.weights}")
    work = options.work or Path(tempfile.mkdtemp(prefix="peer-"))
    work.mkdir(parents=True, exist_ok=True)
    return Job(
        name=name,
        folder=options.folder.resolve(),
        weights=options.weights.resolve(),
        budget_s=options.budget_s,
        out=options.out.resolve(),
        work=work.resolve(),
        stop_at=options.stop_at,
        options=options,
    )
