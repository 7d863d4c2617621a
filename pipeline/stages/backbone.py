"""backbone: the weights that transfer starts from, fetched and verified, or pretrained on the source domain.

Where several candidates are named, the one on whose features a probe does best.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, field_validator

from pipeline.core import plugins
from pipeline.core.context import Context, Result
from pipeline.core.device import computing, threads_for
from pipeline.core.errors import WeightsError
from pipeline.core.params import Params as Base
from pipeline.core.secrets import has_secret
from pipeline.core.web import without_secrets
from pipeline.data.preprocessing import Preprocessing
from pipeline.features.options import ExtractionOptions
from pipeline.models.backbones import BACKBONES
from pipeline.models.backbones import backbone as row_of
from pipeline.training.options import EngineOptions

if TYPE_CHECKING:
    from pipeline.data.labels import LabelSpace
    from pipeline.data.manifest import Manifest
    from pipeline.models.checkpoints import BackboneWeights
    from pipeline.training.pretraining import Start

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]


class File(Base):
    """A checkpoint on this machine, .safetensors, .pt or .pth; relative to the workspace."""

    file: Path
    sha256: Sha256 | None = None


class Url(Base):
    """A checkpoint to download; its digest is not optional.

    Secrets of the address come from the environment: ``https://store.org/w.pt?token=$WEIGHTS_TOKEN``.
    """

    url: str
    sha256: Sha256
    insecure: bool = False
    """Allow http:// (the digest is checked all the same)."""
    allow_private: bool = False
    """Allow a server on this machine or in a private network."""
    max_mb: int = Field(8000, gt=0)
    """A larger file is not fetched."""

    @property
    def terms(self) -> dict[str, Any]:
        """Under which it is fetched, by ``pipeline/models/downloads.py``'s names."""
        return {
            "insecure": self.insecure,
            "allow_private": self.allow_private,
            "max_bytes": self.max_mb * 10**6,
        }

    @field_validator("url")
    @classmethod
    def _holds_no_secret(cls, url: str) -> str:
        """DVC copies the section into dvc.lock, which is committed."""
        if has_secret(url):
            raise ValueError("an address without a password or a token in it; $NAME takes one from the environment")
        return url


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
    """Training of the backbone itself; used where ``weights`` is ``pretrain``."""

    objective: Literal["supervised", "autoencoder", "rotation"] = "supervised"
    """``supervised`` learns the source's labels. The others need none and take the images of both domains:
    ``autoencoder`` paints an image from the features of a masked one, ``rotation`` tells how it was turned."""
    start: Weights | None = None
    """Weights to begin with, in any form that ``backbone.weights`` takes; null begins with random ones. Lower the rate
    with them (3e-4)."""
    epochs: int = Field(12, gt=0)
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Above 0 the source accuracy rises and the features transfer worse (Kornblith et al., 2021)."""

    @field_validator("start")
    @classmethod
    def _is_given(cls, start: Weights | None) -> Weights | None:
        if start in ("pretrain", "none"):
            raise ValueError(
                "a weights name, a mapping with one of the keys file, url, mlflow, or null for random ones"
            )
        return start

    @property
    def domains(self) -> tuple[str, ...]:
        """Whose images it trains on."""
        return ("source",) if self.objective == "supervised" else ("source", "target")


class Candidate(Base):
    """One network, and its weights."""

    name: str
    """A row of ``pipeline/models/backbones.py``."""
    weights: Weights
    """``pretrain``, ``none`` (random), a torchvision weights name such as ``IMAGENET1K_V1``, or a mapping."""
    image_size_px: int | None = Field(None, ge=16)
    """Side of the square the backbone sees; null takes the size its weights were measured at."""
    fit: Literal["crop", "stretch"] | None = None
    """``crop`` cuts the centre out, ``stretch`` keeps everything; null takes the backbone's own."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in BACKBONES:
            raise plugins.UnknownNameError(name, tuple(BACKBONES))
        return name


class Ranking(ExtractionOptions):
    """How candidates are ranked. Batch size, dtype and threads as under ``features``: both then share one cache."""

    images: int = Field(5000, ge=4)
    """Labelled images at most; the three-fold probe's time grows with them."""


class Params(Candidate):
    """Which network and which weights; or the candidates to choose from."""

    name: str = "small_cnn"
    weights: Weights = "pretrain"
    pretrain: Pretrain = Field(default_factory=Pretrain)
    candidates: list[Candidate] = []
    """Ranked by a cross-validated probe on the labelled training images; the best is taken. Where there are any,
    ``name``, ``weights``, ``image_size_px`` and ``fit`` are not used."""
    ranking: Ranking = Field(default_factory=Ranking)

    @field_validator("candidates")
    @classmethod
    def _differ(cls, candidates: list[Candidate]) -> list[Candidate]:
        for number, candidate in enumerate(candidates):
            if candidate in candidates[:number]:
                first = candidates.index(candidate)
                raise ValueError(f"candidates that differ (numbers {first} and {number}, counted from 0, are the same)")
        return candidates

    @property
    def choices(self) -> tuple[tuple[str, Candidate], ...]:
        """What is to be fetched, each under its key in params.yaml."""
        if not self.candidates:
            return (("backbone", self),)
        return tuple((f"backbone.candidates.{number}", choice) for number, choice in enumerate(self.candidates))

    @property
    def checkpoints(self) -> tuple[tuple[str, Candidate], ...]:
        """What is read from elsewhere, each under its key in params.yaml; where several networks are pretrained from
        one start, it is read for each."""
        read = tuple((f"{key}.weights", choice) for key, choice in self.choices)
        if self.pretrain.start is None:
            return read
        beginning = {"weights": self.pretrain.start}
        pretrained = (choice for _, choice in self.choices if choice.weights == "pretrain")
        return (*read, *(("backbone.pretrain.start", choice.model_copy(update=beginning)) for choice in pretrained))

    @property
    def pretrains(self) -> bool:
        return any(choice.weights == "pretrain" for _, choice in self.choices)


def inputs_unused(params: Params) -> tuple[str, ...]:
    """A fetched backbone does not depend on images; one chosen from candidates depends on those of both domains."""
    if params.candidates:
        return ()
    read = {f"{domain}_manifest" for domain in params.pretrain.domains} if params.pretrains else set()
    return tuple(sorted({"label_space", "source_manifest", "target_manifest"} - read))


def run(
    params: Params,
    context: Context,
    *,
    source_manifest: Manifest | None = None,
    target_manifest: Manifest | None = None,
    label_space: LabelSpace | None = None,
) -> Result:
    """Fetch or pretrain; of several candidates, rank them and keep the best."""
    from pipeline.training.ranking.report import Ranking as RankingReport

    if params.candidates:
        return _best(params, context, source_manifest, target_manifest, label_space)
    ((key, choice),) = params.choices
    weights, how = _obtain(key, choice, params.pretrain, context, source_manifest, target_manifest)
    return Result(f"{weights.name} · {how} · {_size(weights)}", {"backbone": weights, "ranking": RankingReport()})


def looked_at(params: Params, context: Context) -> Iterator[str]:
    """Look at every checkpoint, fetching none; say of those that come from elsewhere whether they are here yet.

    Raises:
        WeightsError, ParamsError, ServiceError: what :func:`run` would raise of it.
    """
    for key, choice in params.checkpoints:
        where = f"{key} in params.yaml"
        if isinstance(choice.weights, File):
            _fetch(choice, context, where)
        elif choice.weights not in ("pretrain", "none"):
            yield f"{key}: {_whereabouts(choice, context, where)}"


def _whereabouts(choice: Candidate, context: Context, where: str) -> str:
    """``IMAGENET1K_V1 of resnet18 is on this machine``, or ``… is to be fetched: https://…, 47 MB``."""
    from pipeline.models import downloads

    row, weights, cache = row_of(choice.name), choice.weights, _cache(context)
    if isinstance(weights, Mlflow):
        here = downloads.mlflow_is_here(weights.sha256, cache)
        return "the artifact is on this machine" if here else f"{weights.mlflow} is to be fetched"
    if isinstance(weights, Url):
        if downloads.kept_at(weights.url, weights.sha256, cache).is_file():
            return "the file is on this machine"
        return _to_fetch("the file", weights.url, downloads.size_of(weights.url, where, **weights.terms))
    checkpoint = downloads.published(row, str(weights), where)
    if downloads.torchvision_is_here(checkpoint, cache):
        return f"{weights} of {row.name} is on this machine"
    return _to_fetch(f"{weights} of {row.name}", checkpoint.url, downloads.torchvision_bytes(checkpoint, where))


def _to_fetch(what: str, url: str, size: int | None) -> str:
    of_size = f", {size / 1e6:,.0f} MB" if size is not None else ""
    return f"{what} is to be fetched: {without_secrets(url)}{of_size}"


def _best(
    params: Params,
    context: Context,
    source_manifest: Manifest | None,
    target_manifest: Manifest | None,
    label_space: LabelSpace | None,
) -> Result:
    from pipeline.data.labels import LabelSpace
    from pipeline.data.manifest import Manifest
    from pipeline.training.ranking import backbones as ranking

    empty = Manifest.empty()
    images = ranking.images_to_rank_on(
        source_manifest or empty,
        target_manifest or empty,
        label_space or LabelSpace(classes=[]),
        most=params.ranking.images,
        seed=context.seed,
        source_is_seen=params.pretrains,
    )
    candidates = _candidates(params, context, source_manifest, target_manifest)
    report = ranking.rank(candidates, images, params.ranking, context)
    for line in [*report.table, report.reason, *report.notes]:
        print(f"  {line}", flush=True)
    row = next(row for row in report.rows if row.is_chosen)
    weights = candidates[row.candidate]
    judged = f"best of {len(candidates)}: the probe predicts {row.accuracy:.1%} on {report.images:,} images"
    return Result(
        f"{weights.name} · {weights.origin} · {judged} · {_size(weights)}", {"backbone": weights, "ranking": report}
    )


def _candidates(
    params: Params, context: Context, source_manifest: Manifest | None, target_manifest: Manifest | None
) -> list[BackboneWeights]:
    """All of them, in their order; those that need training last, so that a wrong path is told before hours of it."""
    obtained: dict[str, BackboneWeights] = {}
    for key, choice in sorted(params.choices, key=lambda it: it[1].weights == "pretrain"):
        scratch = context.scratch and context.scratch / key.replace(".", "-")  # two pretrainings, two checkpoints
        own = dataclasses.replace(context, scratch=scratch)
        obtained[key], _ = _obtain(key, choice, params.pretrain, own, source_manifest, target_manifest)
    found = [obtained[key] for key, _ in params.choices]
    _check_differ(found)
    return found


def _check_differ(candidates: list[BackboneWeights]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for number, weights in enumerate(candidates):
        first = seen.setdefault((weights.digest, weights.preprocessing.digest), number)
        if first != number:
            raise WeightsError(
                expected="candidates that differ in their weights or in the images they see",
                found=f"the same weights of {weights.name} as numbers {first} and {number}, counted from 0",
                where="backbone.candidates in params.yaml",
                remedy="Take one of the two out.",
            )


def _obtain(
    key: str,
    choice: Candidate,
    options: Pretrain,
    context: Context,
    source_manifest: Manifest | None,
    target_manifest: Manifest | None,
) -> tuple[BackboneWeights, str]:
    """Weights, and how they came about in words."""
    if choice.weights == "pretrain":
        return _pretrain(choice, options, context, source_manifest, target_manifest)
    weights = _fetch(choice, context, f"{key}.weights in params.yaml")
    return weights, weights.origin


def _size(weights: BackboneWeights) -> str:
    parameters = sum(value.numel() for value in weights.state.values())
    return f"{parameters / 1e6:.2f} M parameters, {weights.feature_dim} features, sha256 {weights.digest[:12]}"


def _preprocessing(choice: Candidate, published: Preprocessing) -> Preprocessing:
    """The user's sizes over the published ones; the resize grows with the crop."""
    size = choice.image_size_px or published.size_px
    return published.model_copy(
        update={
            "size_px": size,
            "resize_px": round(published.resize_px * size / published.size_px),
            "fit": choice.fit or published.fit,
        }
    )


def _fetch(choice: Candidate, context: Context, where: str) -> BackboneWeights:
    from pipeline.models.checkpoints import from_file, random_weights

    row = row_of(choice.name)
    if choice.weights == "none":
        return random_weights(row.name, context.seed, _preprocessing(choice, row.preprocessing))
    path, origin, preprocessing = _locate(choice, context, where)
    return from_file(row.name, path, _preprocessing(choice, preprocessing), origin=origin, where=where)


def _locate(choice: Candidate, context: Context, where: str) -> tuple[Path, str, Preprocessing]:
    """The checkpoint's verified file, its origin in words, and the preprocessing it was measured with."""
    from pipeline.models import downloads
    from pipeline.models.checkpoints import verify

    row, weights = row_of(choice.name), choice.weights
    cache = _cache(context)
    if isinstance(weights, File):
        path = context.workspace / weights.file.expanduser()
        if weights.sha256 is not None and path.is_file():
            verify(path, weights.sha256, where)
        return path, f"file {weights.file.name}", row.preprocessing
    if isinstance(weights, Url):
        path = downloads.from_url(weights.url, weights.sha256, cache, where, **weights.terms)
        return path, f"downloaded {path.name}", row.preprocessing
    if isinstance(weights, Mlflow):
        store = context.tracking_uri
        path = downloads.from_mlflow(weights.mlflow, weights.sha256, cache, where, tracking_uri=store)
        return path, f"MLflow {weights.mlflow}", row.preprocessing
    checkpoint = downloads.published(row, str(weights), where)
    return downloads.from_torchvision(checkpoint, cache, where), f"torchvision {weights}", checkpoint.preprocessing


def _cache(context: Context) -> Path:
    return context.cache or context.workspace / ".graftline" / "cache"


def _pretrain(
    choice: Candidate,
    options: Pretrain,
    context: Context,
    source_manifest: Manifest | None,
    target_manifest: Manifest | None,
) -> tuple[BackboneWeights, str]:
    from pipeline.training import pretraining

    start = _start(choice, options, context)
    course = pretraining.Course(options.epochs, options.learning_rate, options.weight_decay, options.label_smoothing)
    with computing(context.device, context.seed, threads_for(options.threads, start.preprocessing.size_px)):
        if options.objective == "supervised":
            return pretraining.supervised(start, source_manifest, options, context, course)
        domains = [manifest for manifest in (source_manifest, target_manifest) if manifest is not None]
        return pretraining.unsupervised(options.objective, start, domains, options, context, course)


def _start(choice: Candidate, options: Pretrain, context: Context) -> Start:
    """Random weights, or those that ``pretrain.start`` names, with the preprocessing that belongs to them."""
    from pipeline.training.pretraining import Start

    if options.start is None:
        return Start(choice.name, _preprocessing(choice, row_of(choice.name).preprocessing))
    beginning = choice.model_copy(update={"weights": options.start})
    weights = _fetch(beginning, context, "backbone.pretrain.start in params.yaml")
    return Start(choice.name, weights.preprocessing, weights)
