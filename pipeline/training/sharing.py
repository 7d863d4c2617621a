"""Training by several processes: each runs the engine's loop on its rows of every batch.

What comes out equals what one process does, up to rounding, where the network has no dropout (each process draws its
own). Distributed is what is worth it: the supervised loop. An objective that looks at more than one image at a time
(two domains, a teacher, pseudo-labels) is left to one process, which says so.
"""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from pipeline.core.device import choose
from pipeline.core.files import replacing
from pipeline.core.seeding import seed_torch
from pipeline.models.network import contiguous
from pipeline.scale import together
from pipeline.scale.options import Scale
from pipeline.scale.processes import Processes
from pipeline.training import engine
from pipeline.training.engine import Outcome, Work
from pipeline.training.record import Epoch, Group


def run(work: Work, scale: Scale, groups: list[Group]) -> Outcome:
    """Train ``work.network`` in place by the processes of ``scale``.

    Raises:
        TrainingError: as from :func:`pipeline.training.engine.fit`.
        ServiceError: processes died too often.
    """
    device = choose(work.context.device)
    if (reason := why_alone(work, scale.workers, device)) is not None:
        print(f"  trained by one process, not {scale.workers}: {reason}", flush=True)
        return engine.run(work, groups)
    with _folder(work.context.scratch) as folder:
        place = Path(folder) / f"{work.name}.finished.pt"
        together.run(partial(_part, work, groups, place), scale, place.parent, device)
        return _taken(work, groups, place)


def why_alone(work: Work, workers: int, device: torch.device) -> str | None:
    """Why several processes cannot share this work, or would gain nothing, as a sentence; None where they can."""
    images = min(work.options.batch_size, len(work.train))
    if not work.objective.is_mean_over_rows:
        return f"{type(work.objective).__name__} looks at more than one image at a time"
    if images < workers:
        return f"a step has {images} images"
    if device.type not in ("cpu", "cuda"):
        return f"torch does not join processes on {device.type}"
    if device.index is not None:
        return f"runtime.device names one GPU, {device}; 'cuda' would give each process its own"
    return None


def _folder(scratch: Path | None) -> AbstractContextManager[Path | str]:
    """Where processes leave what they made; without a scratch folder, for as long as they work."""
    return tempfile.TemporaryDirectory(prefix="graftline-") if scratch is None else nullcontext(scratch)


def _part(work: Work, groups: list[Group], place: Path) -> None:
    """In each process; the first one keeps checkpoints and curves, speaks, and leaves the result."""
    processes, context = Processes.current(), work.context
    context = replace(
        context,
        scale=None,
        device=processes.device(context.device),
        scratch=context.scratch if processes.is_first else None,
    )
    seed_torch(processes.seed(context.seed))
    for bank in {id(images.bank): images.bank for images in (work.train, work.val) if images}.values():
        bank.share_memory(processes.on_this_machine)
    outcome = engine.run(work._replace(context=context), groups)
    if processes.is_first:
        made = outcome._asdict() | {"history": [entry.model_dump() for entry in outcome.history]}
        del made["groups"]
        with replacing(place) as fresh:
            torch.save(made | {"network": contiguous(work.network.state_dict())}, fresh)


def _taken(work: Work, groups: list[Group], place: Path) -> Outcome:
    made = torch.load(place, map_location="cpu", weights_only=True)
    work.network.load_state_dict(made.pop("network"))
    work.network.eval()
    history = [Epoch(**entry) for entry in made.pop("history")]
    return Outcome(history=history, groups=groups, **made)
