"""The backbone stage: pretraining that resumes, and checkpoints that are what they claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from pydantic import ValidationError

from pipeline.core import digests
from pipeline.core.errors import DataError, WeightsError
from pipeline.models.network import build_backbone
from pipeline.models.small_cnn import small_cnn
from pipeline.stages.backbone import File, Params, Url, run
from pipeline.training import engine

QUICK = {"epochs": 3, "batch_size": 8}


def test_pretrains_on_the_source(toy_domains: Any) -> None:
    """The line and the facts give the source's accuracy; the head learned on the way is not kept."""
    result = run(Params(pretrain=QUICK), toy_domains.context(), source_manifest=toy_domains.source)
    weights = result.outputs["backbone"]
    assert result.line.startswith("small_cnn · pretrained on 36 source images · source validation accuracy ")
    assert weights.facts.source_accuracy is not None
    assert set(build_backbone("small_cnn").state_dict()) == set(weights.state)


def test_supervised_weights_know_that_they_saw_the_source(toy_domains: Any) -> None:
    """Also where nothing was held out to measure an accuracy on."""
    train_alone = toy_domains.source.split("train")
    facts = run(Params(pretrain=QUICK), toy_domains.context(), source_manifest=train_alone).outputs["backbone"].facts
    assert (None, True) == (facts.source_accuracy, facts.pretrained_on_source)


def test_a_killed_pretraining_resumes_to_the_same_bytes(
    toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die while the third epoch is judged, start again: the digest is that of an undisturbed run."""
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", 0.0)
    params = Params(pretrain=QUICK)
    whole = run(params, toy_domains.context(), source_manifest=toy_domains.source).outputs["backbone"].digest
    real, calls = engine.score, iter(range(100))

    def dying(*arguments: Any, **named: Any) -> engine.Score:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    context = toy_domains.context(scratch=tmp_path / "scratch")
    monkeypatch.setattr(engine, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        run(params, context, source_manifest=toy_domains.source)
    monkeypatch.setattr(engine, "score", real)
    assert whole == run(params, context, source_manifest=toy_domains.source).outputs["backbone"].digest


def test_pretraining_needs_a_labelled_source(toy_domains: Any) -> None:
    """Without one the message says what else to set."""
    with pytest.raises(DataError, match=r"found 0 of 0 class[\s\S]*set backbone.weights to pretrained weights"):
        run(Params(), toy_domains.context(), source_manifest=None)


def test_a_file_is_taken_from_the_workspace(toy_domains: Any) -> None:
    """A relative path, with or without its digest; another digest is refused."""
    path = toy_domains.workspace / "mine.safetensors"
    safetensors.torch.save_file(small_cnn(5).state_dict(), path)
    right = Params(weights={"file": "mine.safetensors", "sha256": digests.of_file(path)})
    assert run(right, toy_domains.context()).line.startswith("small_cnn · file mine.safetensors · 0.14 M parameters")
    with pytest.raises(WeightsError, match="sha256 " + "0" * 64):
        run(Params(weights={"file": "mine.safetensors", "sha256": "0" * 64}), toy_domains.context())


def test_random_weights_on_request(toy_domains: Any) -> None:
    """``none`` is the honest zero line; sizes can be set, and the resize follows the crop."""
    params = Params(name="mobilenet_v3_small", weights="none", image_size_px=112)
    weights = run(params, toy_domains.context()).outputs["backbone"]
    assert weights.origin == "random initialisation"
    assert (112, 128, "crop") == (
        weights.preprocessing.size_px,
        weights.preprocessing.resize_px,
        weights.preprocessing.fit,
    )


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("pretrain", str),
        ("IMAGENET1K_V2", str),
        ({"file": "w.pt"}, File),
        ({"url": "https://example.org/w.pt", "sha256": "a" * 64}, Url),
    ],
)
def test_weights_are_a_word_or_a_mapping(given: Any, kind: type) -> None:
    """Which mapping it is follows from its keys."""
    assert isinstance(Params(weights=given).weights, kind)


@pytest.mark.parametrize(
    "given",
    [
        {"url": "https://example.org/w.pt"},
        {"mlflow": "models:/digits@champion"},
        {"file": "w.pt", "sha256": "123"},
        {"fiel": "w.pt"},
    ],
)
def test_wrong_weights_params_are_refused(given: dict[str, str]) -> None:
    """A download or an alias without digest, a digest that is none, a typo."""
    with pytest.raises(ValidationError):
        Params(weights=given)
