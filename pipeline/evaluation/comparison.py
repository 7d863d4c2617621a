"""The challenger beside somebody else on the same images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import paired_gain
from pipeline.evaluation.report import Comparison


def compare(
    against: str,
    name: str,
    ours: NDArray[np.bool_],
    theirs: NDArray[np.bool_],
    *,
    resamples: int,
    seed: int,
    problem: str | None = None,
) -> Comparison:
    """``ours`` and ``theirs`` say, image by image, who was right; [images], at least one."""
    fixed, broken = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    low, high = paired_gain(fixed, broken, len(ours), resamples=resamples, seed=seed)
    return Comparison(
        against=against,
        name=name,
        images=len(ours),
        accuracy=float(theirs.mean()),
        gain=(fixed - broken) / len(ours),
        gain_low=low,
        gain_high=high,
        fixed=fixed,
        broken=broken,
        problem=problem,
    )


def other_classes(champion: list[str], challenger: list[str]) -> str | None:
    """A sentence on how two lists of classes differ; None where they hold the same names in any order."""
    gone, new = sorted(set(champion) - set(challenger)), sorted(set(challenger) - set(champion))
    if not gone and not new:
        return None
    parts = [f"no longer answers {_some(gone)}"] * bool(gone) + [f"newly answers {_some(new)}"] * bool(new)
    return f"the challenger {' and '.join(parts)}; only images of shared classes are compared"


def _some(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"'{name}'" for name in names[:shown]) + more
