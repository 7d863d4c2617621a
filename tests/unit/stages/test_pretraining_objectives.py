"""The backbone stage without labels: autoencoder and rotation, and pretraining that goes on from given weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from pipeline import params as settings
from pipeline.core.errors import DataError, ParamsError, WeightsError
from pipeline.data.manifest import Manifest
from pipeline.graph import outside
from pipeline.graph.table import BY_NAME
from pipeline.models.network import build_backbone
from pipeline.models.small_cnn import small_cnn
from pipeline.stages.backbone import Params, run
from pipeline.training import engine

QUICK = {"epochs": 2, "batch_size": 16, "min_steps_per_epoch": 1}


def on(toy_domains: Any, params: Params, **manifests: Any) -> Any:
    given = {"source_manifest": toy_domains.source, "target_manifest": toy_domains.target, **manifests}
    return run(params, toy_domains.context(), **given)


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("autoencoder", "pretrained as an autoencoder of 72 images, labels unused · reconstruction error "),
        ("rotation", "pretrained on rotations of 72 images, labels unused · "),
    ],
)
def test_learns_from_the_images_of_both_domains(toy_domains: Any, objective: str, told: str) -> None:
    """The line says what was reached on held-out images; there is no head and no source accuracy. The same twice."""
    params = Params(pretrain={**QUICK, "objective": objective})
    result = on(toy_domains, params)
    weights = result.outputs["backbone"]
    assert told in result.line
    assert "24 held-out images" in result.line
    assert (weights.facts.source_accuracy, weights.head) == (None, None)
    assert not weights.facts.pretrained_on_source
    random = build_backbone("small_cnn", 0).state_dict()
    assert not torch.equal(random["stage3.0.0.weight"], weights.state["stage3.0.0.weight"])
    assert on(toy_domains, params).outputs["backbone"].digest == weights.digest


@pytest.mark.parametrize("objective", ["autoencoder", "rotation"])
def test_labels_do_not_matter(toy_domains: Any, objective: str) -> None:
    """Without any, source and target give the same weights."""
    params = Params(pretrain={**QUICK, "epochs": 1, "objective": objective})
    source, target = (Manifest(it.frame.assign(label=None)) for it in (toy_domains.source, toy_domains.target))
    unlabelled = on(toy_domains, params, source_manifest=source, target_manifest=target)
    assert on(toy_domains, params).outputs["backbone"].digest == unlabelled.outputs["backbone"].digest


def test_a_target_alone_is_enough(toy_domains: Any) -> None:
    """Where there is no source; but some images there must be."""
    params = Params(pretrain={**QUICK, "epochs": 1, "objective": "rotation"})
    assert "of 36 images" in on(toy_domains, params, source_manifest=Manifest.empty()).line
    with pytest.raises(DataError, match=r"training images of the source or the target[\s\S]*found 0"):
        on(toy_domains, params, source_manifest=Manifest.empty(), target_manifest=Manifest.empty())


def test_a_killed_one_resumes_to_the_same_bytes(
    toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder is checkpointed with the backbone."""
    monkeypatch.setattr(engine, "CHECKPOINT_EVERY_S", 0.0)
    params = Params(pretrain={**QUICK, "objective": "autoencoder"})
    whole = on(toy_domains, params).outputs["backbone"].digest
    manifests = {"source_manifest": toy_domains.source, "target_manifest": toy_domains.target}
    context, real = toy_domains.context(scratch=tmp_path / "scratch"), engine.set_modes
    calls = iter(range(100))

    def dying(*arguments: Any) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(engine, "set_modes", dying)
    with pytest.raises(KeyboardInterrupt):
        run(params, context, **manifests)
    monkeypatch.setattr(engine, "set_modes", real)
    assert whole == run(params, context, **manifests).outputs["backbone"].digest


def test_goes_on_from_given_weights(toy_domains: Any) -> None:
    """``start`` takes any form that ``weights`` does; at a rate of (almost) zero they come out as they went in."""
    path = toy_domains.workspace / "mine.safetensors"
    safetensors.torch.save_file(small_cnn(5).state_dict(), path)
    still = {**QUICK, "epochs": 1, "learning_rate": 1e-12, "start": {"file": "mine.safetensors"}}
    weights = on(toy_domains, Params(pretrain=still)).outputs["backbone"]
    assert weights.origin == "file mine.safetensors, then pretrained on the source domain"
    given = safetensors.torch.load_file(path)
    assert torch.allclose(given["stem.0.0.weight"], weights.state["stem.0.0.weight"], atol=1e-6)


def test_what_it_starts_from_is_checked(toy_domains: Any) -> None:
    """A missing file is told with the key that names it."""
    params = Params(pretrain={"start": {"file": "absent.pt"}})
    with pytest.raises(WeightsError, match=r"backbone\.pretrain\.start in params\.yaml"):
        on(toy_domains, params)


@pytest.mark.parametrize(
    ("pretrain", "message"),
    [
        ({"objective": "jigsaw"}, r"Expected 'supervised', 'autoencoder' or 'rotation'; found 'jigsaw'"),
        ({"start": "pretrain"}, r"null for random ones; found 'pretrain'"),
    ],
)
def test_unknown_values_are_told(pretrain: dict[str, Any], message: str) -> None:
    """What there is, and what was found."""
    with pytest.raises(ParamsError, match=message):
        settings.parse({"backbone": {"pretrain": pretrain}}, "params.yaml")


def test_the_stage_depends_on_the_images_it_reads() -> None:
    """The target's too, where labels are not needed; and on the file that it starts from."""
    stage = BY_NAME["backbone"]

    def inputs(backbone: dict[str, Any]) -> tuple[str, ...]:
        return stage.inputs_used(settings.parse({"backbone": backbone}, "params.yaml"))

    assert inputs({"pretrain": {"objective": "supervised"}}) == ("source_manifest",)
    assert inputs({"pretrain": {"objective": "rotation"}}) == ("source_manifest", "target_manifest")
    assert inputs({"weights": "none", "pretrain": {"objective": "rotation"}}) == ()
    started = settings.parse({"backbone": {"pretrain": {"start": {"file": "mine.pt"}}}}, "params.yaml")
    assert [place.key for place in outside.places(stage, started)] == ["backbone.pretrain.start.file"]
