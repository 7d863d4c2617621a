"""What a gate is: a small judge that looks at evidence and says what it found. It never raises to say no.

A gate is a public module in this package with

* ``Params``: its limits, a subclass of :class:`GateParams`;
* ``SUMMARY``: what it demands, in one line;
* ``check(evidence, params) -> Finding``.

Optional gates (:class:`OptionalGateParams`) judge only where params.yaml asks for them.

Gates fail closed: what cannot be shown does not pass. They are monotone: better evidence never turns a pass into a
fail.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, create_model, model_validator

from pipeline.core import plugins
from pipeline.core.files import Document
from pipeline.core.params import Params

PACKAGE = "pipeline.gates"


class GateParams(Params):
    """Every gate has these; each adds its own limits. A bare ``false`` turns a gate off."""

    enabled: bool = Field(True, description="false takes this gate out of the verdict")

    @model_validator(mode="before")
    @classmethod
    def _from_bool(cls, value: Any) -> Any:
        return {"enabled": value} if isinstance(value, bool) else value


class OptionalGateParams(GateParams):
    """Of a gate that is off until it is asked for: by a bare ``true``, or by giving it a limit."""

    enabled: bool = Field(False, description="true puts this gate into the verdict; so does giving it a limit")

    @model_validator(mode="before")
    @classmethod
    def _asked_for(cls, value: Any) -> Any:
        return {"enabled": True, **value} if isinstance(value, dict) and value else value


def gates_params() -> type[Params]:
    """A parameter class with one field per gate, named as its file, of its ``Params``."""
    fields: dict[str, Any] = {}
    for name in plugins.names(PACKAGE):
        gate = plugins.load(PACKAGE, name)
        fields[name] = (gate.Params, Field(gate.Params(), description=gate.SUMMARY))
    return create_model("Gates", __base__=Params, __doc__="Limits of each gate, by its name.", **fields)


class Finding(Document):
    """One gate's judgement, in figures and in a sentence."""

    gate: str
    passed: bool
    observed: str
    required: str
    why: str


class Evidence(Document):
    """Everything a gate may look at: the reports of the stages before it, as they were written.

    A report that is not there is an empty mapping, and a gate that needs it fails closed.
    """

    metrics: dict[str, Any] = {}
    parity: dict[str, Any] = {}
    validation: dict[str, Any] = {}
    training: dict[str, Any] = {}
    latency: dict[str, Any] = {}
    robustness: dict[str, Any] = {}

    def comparison(self, against: str) -> dict[str, Any] | None:
        """The comparison with ``champion`` or ``baseline`` in the metrics, if it was made."""
        made = self.metrics.get("comparisons", [])
        return next((entry for entry in made if entry["against"] == against), None)


class Verdict(Document):
    """All findings; ``passed`` only if every one passed."""

    passed: bool
    findings: list[Finding]
    off: list[str] = []
    """Gates that params.yaml turned off."""
    not_asked: list[str] = []
    """Optional gates that params.yaml did not ask for."""

    @property
    def failed(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.passed]


def finding(module: str, passed: bool, *, observed: str, required: str, why: str | None = None) -> Finding:
    """The finding of the gate in ``module`` (its ``__name__``); ``why`` defaults to what was observed and required."""
    gate = module.rpartition(".")[2]
    return Finding(gate=gate, passed=passed, observed=observed, required=required, why=why or f"{observed}; {required}")


def missing(module: str, what: str, *, required: str) -> Finding:
    """The finding of a gate whose evidence is not there: it fails, and says what was missing."""
    return finding(module, False, observed=f"no {what}", required=required, why=f"no {what}, so nothing can be shown")


def with_interval(value: float, low: float, high: float, *, sign: bool = False) -> str:
    """``0.943 (0.927–0.958)``, or signed: ``+0.012 (-0.003 to +0.027)``."""
    if sign:
        return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"{value:.3f} ({low:.3f}–{high:.3f})"
