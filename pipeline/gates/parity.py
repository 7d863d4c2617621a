"""What was exported must answer as what was trained.

Judged on the float32 file; where int8 ships, ``export.int8_max_drop`` has judged what that loses. Heads that compare
(trees, nearest neighbours) report a ``step``: a feature on a threshold may fall to the other side by the last bit of a
float, so up to three steps are allowed on top of ``max_delta``, on one image in a hundred: that much is rounding, more
is another model. The step is 0 for all other heads.
"""

from __future__ import annotations

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing

SUMMARY = "the exported file answers as the trained network does"

FLIPS = 3
"""So many comparisons of a head with steps may fall to the other side; as where ties are counted."""


RARE = 0.01
"""Share of the answers on which a comparison may do so."""


class Params(GateParams):
    """Limits of this gate."""

    max_delta: float = Field(1e-4, gt=0, description="largest difference of any probability that passes")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge every image at every batch size: the same class on all, and probabilities within ``max_delta``.

    Where the head has steps, ties (see :mod:`pipeline.serving.parity`) pass, and the limit is ``max_delta + 3 · step``.
    """
    report = evidence.parity
    step = report.get("step", 0.0)
    limit = params.max_delta + FLIPS * step
    required = _required(params.max_delta, step)
    if not report.get("images"):
        return missing(__name__, "image on which file and network were compared", required=required)
    sizes = ", ".join(str(batch["batch_size"]) for batch in report["batches"])
    differ = report["disagreements"]
    agreement = f"{differ} disagreements" if differ else "the same class"
    if jumps := report.get("jumps", 0) if step else 0:
        agreement += f", {jumps} answers fallen to the other side of a threshold ({report.get('ties', 0)} ties),"
    observed = (
        f"{agreement} on {report['images']:,} {report['split']} images at batch {sizes};"
        f" max |Δp| {report['max_probability_delta']:.1e}"
    )
    compared = sum(batch.get("images", 0) for batch in report["batches"])
    is_rare = step == 0 or report.get("jumps", 0) <= max(1, RARE * compared)
    passed = differ == 0 and report["max_probability_delta"] < limit and is_rare
    return finding(__name__, passed, observed=observed, required=required)


def _required(max_delta: float, step: float) -> str:
    if step == 0:
        return f"the same class on all, max |Δp| below {max_delta:.0e}"
    return (
        f"the same class on all but ties, max |Δp| below {max_delta:.0e} + {FLIPS} × {step:.1e}, what {FLIPS}"
        " comparisons of the head change that fall to the other side by the last bit of a float,"
        f" and above {max_delta:.0e} on {RARE:.0%} at most"
    )
