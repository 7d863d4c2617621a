"""The promises that training made, and measured, must have held."""

from __future__ import annotations

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing

SUMMARY = "training did not diverge, and left frozen weights unchanged"


class Params(GateParams):
    """No limits: a promise holds or it does not."""


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the guards in the training record; a probe is solved and not trained, and has none to break."""
    required = "all kept"
    guards = evidence.training.get("guards")
    if guards is None:
        return missing(__name__, "training record", required=required)
    broken = sorted(name.replace("_", " ") for name, held in guards.items() if not held)
    observed = f"broken: {', '.join(broken)}" if broken else f"{len(guards)} of {len(guards)} promises kept"
    if not guards:
        observed = "no training by gradient, so no promises"
    return finding(__name__, not broken, observed=observed, required=required, why=observed)
