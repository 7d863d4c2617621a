"""Distillation: another strategy fits a large teacher, and a small student learns to answer as that one does.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015). The student sees every training image
of the target, labelled or not (where the target has few, the source's too), and minimises, with teacher's logits
t [n, C] of plain views and its own s [n, C] of augmented ones,
    mean_i( α·T²·KL(softmax(t_i / T) ‖ softmax(s_i / T)) + (1 − α)·[i has a label]·(−log softmax(s_i)[y_i]) ).

It starts from random weights. The default student is small_cnn: its 0.14 million weights learn from some hundred images
and it answers in about a millisecond; with thousands of photographs, mobilenet_v3_small (1.5 million) holds more.

Helps: where the network must be small or fast, and there are many images, even if few have labels.
Hurts: with few images the student stays behind its teacher, photographs most of all. The drop is measured on images it
was not trained on, and the gate ``training_guards`` holds a student that lost more than ``max_drop``.
Cost: the teacher's, one pass of the teacher over all images, and training of the student: short epochs, but many.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator

from pipeline.core import plugins
from pipeline.core.params import ChosenByName, PluginParams
from pipeline.models.backbones import BACKBONES, backbone
from pipeline.training.phases import Phase

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import core_schema

    from pipeline.core.context import Context
    from pipeline.data.preprocessing import Preprocessing
    from pipeline.models.network import Network
    from pipeline.training.distillation import Drop
    from pipeline.training.task import Fitted, Task

SUMMARY = "a small network that learns to answer as a large one does"
NEEDS = ("labels", "features", "pixels")

PACKAGE = __name__.rpartition(".")[0]

NO_TEACHERS = ("auto", "distill")
"""Strategies that run others in turn."""

DETAIL_PX = 64
"""A student made for smaller images still gets as many pixels as this where the teacher has them: photographs lose
what tells them apart below it."""


class _Teacher(ChosenByName):
    """Any strategy that does not run others; its schema names them and leaves their own values to them."""

    def _parse(self, value: Any) -> PluginParams:
        chosen = super()._parse(value)
        if chosen.name in NO_TEACHERS:
            raise ValueError(f"a strategy that fits one network, one of: {', '.join(self._names())}")
        return chosen

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        named = {"enum": self._names()}
        return {"anyOf": [named, {"type": "object", "properties": {"name": named}, "required": ["name"]}]}

    def _names(self) -> list[str]:
        return [name for name in plugins.names(self.package) if name not in NO_TEACHERS]


class Params(PluginParams):
    """Who teaches, who learns, and what may be lost on the way."""

    name: Literal["distill"] = "distill"
    teacher: SerializeAsAny[Annotated[PluginParams, _Teacher(PACKAGE)]] = Field("lp_ft", validate_default=True)
    """A strategy, by its name or as a mapping with its parameters; it uses the backbone."""
    student: str = "small_cnn"
    """A row of ``pipeline/models/backbones.py``; it starts from random weights."""
    student_size_px: int | None = Field(None, ge=16)
    """Side of the square the student sees; null takes the teacher's, but no more than the student is made for (or 64).
    """
    temperature: float = Field(4.0, gt=0)
    """T: how much of the teacher's doubt between wrong classes comes through."""
    alpha: float = Field(0.5, ge=0, le=1)
    """Weight of the teacher's answers; the labels' is 1 − alpha."""
    few: int = Field(1000, ge=0)
    """With fewer target images than this, those of the source are shown to teacher and student too."""
    epochs: int = Field(40, gt=0)
    """Of the student; a small set is passed over several times per epoch."""
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    patience: int | None = Field(10, gt=0)
    max_drop: float = Field(0.01, ge=0, le=1)
    """Accuracy that the student may lose on the validation split; where that is too small to judge by, the share of
    target images that it may answer otherwise than the teacher."""

    @field_validator("student")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in BACKBONES:
            raise plugins.UnknownNameError(name, tuple(BACKBONES))
        return name


def fit(task: Task, params: Params, context: Context) -> Fitted:
    """Teacher, its answers, student, comparison.

    Raises:
        DataError: the teacher's data are missing.
        ParamsError: the student cannot take images of that size.
    """
    from pipeline.models.network import size_mb
    from pipeline.training import distillation, engine
    from pipeline.training.task import Fitted

    preprocessing = _preprocessing(params, task.backbone.preprocessing)
    student = _student(task, params, preprocessing)
    taught = _teach(task, params, context)
    sight = taught.preprocessing or task.backbone.preprocessing
    manifest, labels = distillation.pupils(task, params.few)
    answers = distillation.answers(task, taught.network, manifest, sight, who="teacher")
    val_labels = task.label_space.indices(task.val.frame["label"])
    outcome = engine.fit(
        student,
        [_phase(task, student, params)],
        distillation.images_of(task, manifest, labels, preprocessing),
        distillation.images_of(task, task.val, val_labels, preprocessing) if task.holds_out else None,
        task.options,
        context,
        objective=distillation.Distillation(answers, temperature=params.temperature, alpha=params.alpha),
        name="student",
    )
    drop = distillation.measure(
        task,
        (taught.network, sight),
        (student, preprocessing),
        val_labels,
        teachers_accuracy=taught.record.val_accuracy,
    )
    sizes = {name: size_mb(it.state_dict()) for name, it in (("teacher", taught.network), ("student", student))}
    record = task.record(
        params,
        history=outcome.history,
        groups=outcome.groups,
        guards=_guards(taught, outcome.guards, drop, params),
        selection="validation split" if drop.by == "accuracy" else "none",
        val_accuracy=drop.student if drop.by == "accuracy" else None,
        measured=_measured(drop, sizes),
        sentences=[_told_of_teacher(taught, params, len(manifest)), _told_of_drop(drop, sizes, params)],
    )
    return Fitted(student, record, preprocessing)


def _preprocessing(params: Params, teachers: Preprocessing) -> Preprocessing:
    """The teacher's section of the image at the student's size, in the student's own range of values."""
    made_for = backbone(params.student).preprocessing
    size_px = params.student_size_px or min(teachers.size_px, max(made_for.size_px, DETAIL_PX))
    return teachers.model_copy(
        update={
            "size_px": size_px,
            "resize_px": round(teachers.resize_px * size_px / teachers.size_px),
            "mean": made_for.mean,
            "std": made_for.std,
        }
    )


def _student(task: Task, params: Params, preprocessing: Preprocessing) -> Network:
    """The student with random weights, once it is known to take such images."""
    import torch

    from pipeline.core.errors import ParamsError
    from pipeline.models.network import Network, build_backbone

    body, size_px = build_backbone(params.student, task.context.seed), preprocessing.size_px
    try:
        with torch.no_grad():
            body.eval()(torch.zeros(1, 3, size_px, size_px))
    except (RuntimeError, AssertionError, ValueError) as error:  # pooled to nothing, or one size only
        made_for = backbone(params.student).preprocessing.size_px
        raise ParamsError(
            expected=f"a size that {params.student} can take; it is made for {made_for} px",
            found=f"{size_px} px",
            where="train.strategy.student_size_px in params.yaml",
            remedy=f"Set it to {made_for}, or choose another student, such as small_cnn.",
        ) from error
    return Network(params.student, body, len(task.classes))


def _teach(task: Task, params: Params, context: Context) -> Fitted:
    """Fit the teacher as if it were alone, with a folder for checkpoints of its own."""
    from pipeline.training import needs

    strategy = plugins.load(PACKAGE, params.teacher.name)
    needs.check(params.teacher.name, strategy, task)
    own = replace(context, scratch=context.scratch and context.scratch / "teacher")
    return strategy.fit(task.with_context(own), params.teacher, own)


def _phase(task: Task, student: Network, params: Params) -> Phase:
    return Phase(
        name="distil",
        epochs=params.epochs,
        learning_rates=dict.fromkeys(student.groups, params.learning_rate),
        weight_decay=params.weight_decay,
        batch_norm="train",
        patience=params.patience,
        keep="best" if task.labels_from == "target" else "last",
    )


def _guards(taught: Fitted, own: dict[str, bool], drop: Drop, params: Params) -> dict[str, bool]:
    teachers = {f"teacher_{name}": kept for name, kept in taught.record.guards.items()}
    within = drop.value <= params.max_drop + 1e-9  # rates are differences of fractions
    return {**teachers, **own, "distillation_drop_within_limit": within}


def _measured(drop: Drop, sizes: dict[str, float]) -> dict[str, float]:
    shares = {f"student_{drop.by}": drop.student, "drop": drop.value}
    if drop.teacher is not None:
        shares["teacher_accuracy"] = drop.teacher
    return shares | {f"{name}_mb": round(size, 3) for name, size in sizes.items()}


def _told_of_teacher(taught: Fitted, params: Params, images: int) -> str:
    return (
        f"A teacher ({taught.network.row.name}) was fitted by the strategy {params.teacher.name}; from its answers to "
        f"{images:,} images, and what labels they have, the student ({params.student}) learned."
    )


def _told_of_drop(drop: Drop, sizes: dict[str, float], params: Params) -> str:
    smaller = f"At {sizes['student']:.2f} MB in place of {sizes['teacher']:.2f} MB"
    limit = f"{'within' if drop.value <= params.max_drop + 1e-9 else 'more than'} the {params.max_drop:.1%} allowed"
    if drop.teacher is None:
        return (
            f"{smaller} it agrees with the teacher on {drop.student:.1%} of {drop.images:,} target images without "
            f"labels enough to tell accuracy; that {drop.value:.1%} differ is {limit}."
        )
    return (
        f"{smaller} it answers {drop.student:.1%} of {drop.images:,} held-out images rightly, its teacher "
        f"{drop.teacher:.1%}; the drop of {100 * drop.value:.1f} points is {limit}."
    )
