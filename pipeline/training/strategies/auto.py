"""auto: try what fits the data at hand, cheap strategies first, and keep the baseline unless something surely beats it.

Candidates follow from what there is (labels per class, a source, how far it is). With ten target labels per class or
more they are cross-validated on these, the weaker half dropped after each fold; with fewer, guards refuse what went
wrong, and the rest is ranked without labels: by MixVal (Hu et al., 2023), information maximisation and the balance of
classes. The baseline ships unless the winner beats it on the same images by McNemar's exact test at 5 %, divided by
the number of candidates, and blends that share an image count for what they are worth together: the linear probe, or
with few labels what ``pipeline/training/choice/baseline.py`` says. Labels of the test split are never seen.

Loss: that of the strategy it chooses; see there.

Helps: when nobody knows which strategy fits, and as a guard against transfer that harms.
Hurts: where one strategy is known to be right: the others cost time. Without target labels no rule is sure; the record
says how many labels would settle it.
Cost: the sum of what it tries, ended by ``budget_minutes``; each candidate's seconds are in ``reports/trials.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.core import plugins
from pipeline.core.params import PluginParams

if TYPE_CHECKING:
    from pipeline.core.context import Context
    from pipeline.training.task import Fitted, Task

SUMMARY = "tries what fits the data, keeps the baseline unless it is surely beaten"
NEEDS = ("features", "pixels")

RUNS_OTHERS = True
"""Every strategy's file is in the key of a stage that runs this one."""

PACKAGE = "pipeline.training.strategies"

NOT_ON_TRIAL = ("auto", "distill", "federated")
"""These have an aim of their own: a choice, a smaller network, images that stay where they are."""


class Params(PluginParams):
    """What may be tried, and for how long."""

    name: Literal["auto"] = "auto"
    budget_minutes: float = Field(20, gt=0)
    """Of fitting; once they are spent no candidate is begun, and one that is training stops after its epoch. The
    baseline always runs to its end (with few labels it may be fine-tuning), and so does the winner's last fit."""
    candidates: list[str] | None = None
    """Strategies to try beside the baseline; null takes those that fit the data."""
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Parameters of candidates by their name, e.g. ``{mcc: {epochs: 20}}``."""
    repeats: int = Field(2, ge=1)
    """Seeds per candidate where no labels decide: adaptation that succeeds with one may collapse with another."""

    @field_validator("candidates")
    @classmethod
    def _can_be_tried(cls, candidates: list[str] | None) -> list[str] | None:
        known = tuple(name for name in plugins.names(PACKAGE) if name not in NOT_ON_TRIAL)
        for name in candidates or ():
            if name not in known:
                raise plugins.UnknownNameError(name, known)
        return candidates

    @model_validator(mode="after")
    def _settings_fit(self) -> Params:
        for name, values in self.settings.items():
            own = plugins.load(PACKAGE, name).Params
            try:
                own.model_validate(values)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"])
                keys = ", ".join(sorted(set(own.model_fields) - {"name"}))
                raise ValueError(f"settings.{name}.{place}: {first['msg']}; '{name}' has: {keys}") from None
        return self


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Choose, and return what was chosen with the story of the choice."""
    from pipeline.training.choice.search import choose

    return choose(task, params, context)
