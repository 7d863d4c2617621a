"""backbone: the weights that transfer starts from, fetched and verified, or pretrained on the source domain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, field_validator

from pipeline.core import plugins
from pipeline.core.context import Context, Result
from pipeline.core.device import computing, threads_for
from pipeline.core.params import Params as Base
from pipeline.data.preprocessing import Preprocessing
from pipeline.models.backbones import BACKBONES
from pipeline.models.backbones import backbone as row_of
from pipeline.training.options import EngineOptions

if TYPE_CHECKING:
    from pipeline.data.manifest import Manifest
    from pipeline.models.checkpoints import BackboneWeights

WHERE = "backbone.weights in params.yaml"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]


class File(Base):
    """A checkpoint on this machine, .safetensors, .pt or .pth; relative to the workspace."""

    file: Path
    sha256: Sha256 | None = None


class Url(Base):
    """A checkpoint to download; its digest is not optional."""

    url: str
    sha256: Sha256
    insecure: bool = False
    """Allow http:// (the digest is checked all the same)."""


class Mlflow(Base):
    """A checkpoint kept as an MLflow artifact: ``runs:/…``, ``models:/…``, ``mlflow-artifacts:/…``.

    Its digest is not optional: an alias such as ``models:/name@champion`` may point elsewhere tomorrow.
    """

    mlflow: str
    sha256: Sha256


def _chosen_form(value: Any) -> Any:
    """A mapping as the one form that its keys speak of, so that a fault in it is told as a fault of that form."""
    if not isinstance(value, dict):
        return value
    forms: dict[str, type[Base]] = {"file": File, "url": Url, "mlflow": Mlflow}
    chosen = [form for key, form in forms.items() if key in value]
    if len(chosen) != 1:
        raise ValueError("a weights name, or a mapping with one of the keys file, url, mlflow")
    return chosen[0].model_validate(value)


Weights = Annotated[Literal["pretrain", "none"] | str | File | Url | Mlflow, BeforeValidator(_chosen_form)]


class Pretrain(EngineOptions):
    """Supervised training on the source's labelled images; used where ``weights`` is ``pretrain``."""

    epochs: int = Field(12, gt=0)
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Above 0 the source accuracy rises and the features transfer worse (Kornblith et al., 2021)."""


class Params(Base):
    """Which network, and which weights."""

    name: str = "small_cnn"
    """A row of ``pipeline/models/backbones.py``."""
    weights: Weights = "pretrain"
    """``pretrain``, ``none`` (random), a torchvision weights name such as ``IMAGENET1K_V1``, or a mapping."""
    image_size_px: int | None = Field(None, ge=16)
    """Side of the square the backbone sees; null takes the size its weights were measured at."""
    fit: Literal["crop", "stretch"] | None = None
    """``crop`` cuts the centre out, ``stretch`` keeps everything; null takes the backbone's own."""
    pretrain: Pretrain = Field(default_factory=Pretrain)

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in BACKBONES:
            raise plugins.UnknownNameError(name, tuple(BACKBONES))
        return name


def run(params: Params, context: Context, *, source_manifest: Manifest | None = None) -> Result:
    """Fetch or pretrain."""
    row_of(params.name)
    if params.weights == "pretrain":
        return _pretrain(params, context, source_manifest)
    weights = _fetch(params, context)
    return Result(f"{weights.name} · {weights.origin} · {_size(weights)}", {"backbone": weights})


def _size(weights: BackboneWeights) -> str:
    parameters = sum(value.numel() for value in weights.state.values())
    return f"{parameters / 1e6:.2f} M parameters, {weights.feature_dim} features, sha256 {weights.digest[:12]}"


def _preprocessing(params: Params, published: Preprocessing) -> Preprocessing:
    """The user's sizes over the published ones; the resize grows with the crop."""
    size = params.image_size_px or published.size_px
    return published.model_copy(
        update={
            "size_px": size,
            "resize_px": round(published.resize_px * size / published.size_px),
            "fit": params.fit or published.fit,
        }
    )


def _fetch(params: Params, context: Context) -> BackboneWeights:
    from pipeline.models.checkpoints import from_file, random_weights

    row, weights = row_of(params.name), params.weights
    preprocessing = row.preprocessing
    if weights == "none":
        return random_weights(row.name, context.seed, _preprocessing(params, preprocessing))
    path, origin, preprocessing = _locate(params, context)
    return from_file(row.name, path, _preprocessing(params, preprocessing), origin=origin, where=WHERE)


def _locate(params: Params, context: Context) -> tuple[Path, str, Preprocessing]:
    """The checkpoint's verified file, its origin in words, and the preprocessing it was measured with."""
    from pipeline.models import downloads
    from pipeline.models.checkpoints import verify

    row, weights = row_of(params.name), params.weights
    cache = context.cache or context.workspace / ".graftline" / "cache"
    if isinstance(weights, File):
        path = context.workspace / weights.file.expanduser()
        if weights.sha256 is not None and path.is_file():
            verify(path, weights.sha256, WHERE)
        return path, f"file {weights.file.name}", row.preprocessing
    if isinstance(weights, Url):
        path = downloads.from_url(weights.url, weights.sha256, cache, WHERE, insecure=weights.insecure)
        return path, f"downloaded {path.name}", row.preprocessing
    if isinstance(weights, Mlflow):
        store = context.tracking_uri
        path = downloads.from_mlflow(weights.mlflow, weights.sha256, cache, WHERE, tracking_uri=store)
        return path, f"MLflow {weights.mlflow}", row.preprocessing
    checkpoint = downloads.published(row, str(weights), WHERE)
    return downloads.from_torchvision(checkpoint, cache, WHERE), f"torchvision {weights}", checkpoint.preprocessing


def _pretrain(params: Params, context: Context, source_manifest: Manifest | None) -> Result:
    from pipeline.training.pretraining import pretrain

    options = params.pretrain
    preprocessing = _preprocessing(params, row_of(params.name).preprocessing)
    with computing(context.device, context.seed, threads_for(options.threads, preprocessing.size_px)):
        weights, images = pretrain(
            params.name,
            source_manifest,
            preprocessing,
            options,
            context,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            label_smoothing=options.label_smoothing,
        )
    accuracy = weights.facts.source_accuracy
    judged = "" if accuracy is None else f" · source validation accuracy {accuracy:.1%}"
    return Result(
        f"{weights.name} · pretrained on {images:,} source images{judged} · {_size(weights)}", {"backbone": weights}
    )
