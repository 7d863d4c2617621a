"""The backbone stage with candidates: all are fetched, ranked on the same images, and one is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from pipeline import params as settings
from pipeline.core.errors import DataError, ParamsError, WeightsError
from pipeline.data.manifest import Manifest
from pipeline.graph import outside
from pipeline.graph.table import BY_NAME
from pipeline.models.small_cnn import small_cnn
from pipeline.params import Settings
from pipeline.stages import features
from pipeline.stages.backbone import Params, run

RANDOM = {"name": "small_cnn", "weights": "none"}
MINE = {"name": "small_cnn", "weights": {"file": "mine.safetensors"}}


@pytest.fixture
def inputs(toy_domains: Any) -> dict[str, Any]:
    safetensors.torch.save_file(small_cnn(5).state_dict(), toy_domains.workspace / "mine.safetensors")
    return {
        "source_manifest": toy_domains.source,
        "target_manifest": toy_domains.target,
        "label_space": toy_domains.labels,
    }


def candidates(*given: dict[str, Any], **others: Any) -> Params:
    return Params(candidates=list(given), **others)


def test_the_best_is_the_output_and_the_ranking_has_them_all(
    toy_domains: Any, inputs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is printed, indented as everything a stage says on its way; the line names the winner."""
    result = run(candidates(RANDOM, MINE, {**RANDOM, "image_size_px": 16}), toy_domains.context(), **inputs)
    ranked, kept = result.outputs["ranking"], result.outputs["backbone"]
    chosen = next(row for row in ranked.rows if row.is_chosen)
    assert (chosen.digest, chosen.image_size_px) == (kept.digest, kept.preprocessing.size_px)
    assert (3, 18, 3, "target") == (len(ranked.rows), ranked.images, ranked.classes, ranked.labels_from)
    assert {16, 32} == {row.image_size_px for row in ranked.rows}
    printed = capsys.readouterr().out.splitlines()
    assert all(line.startswith("  ") for line in printed)
    assert 1 == sum("→" in line for line in printed)
    assert f"  {ranked.reason}" in printed
    assert f"best of 3: the probe predicts {chosen.accuracy:.1%} on 18 images" in result.line


def test_the_features_stage_finds_what_the_ranking_computed(toy_domains: Any, inputs: dict[str, Any]) -> None:
    """18 of the 120 images are in the cache already."""
    context = toy_domains.context(cache=toy_domains.workspace / "cache")
    kept = run(candidates(RANDOM), context, **inputs).outputs["backbone"]
    manifests = {name: inputs[name] for name in ("source_manifest", "target_manifest")}
    line = features.run(features.Params(), context, backbone=kept, **manifests).line
    assert line.endswith("102 computed, 18 cached")


def test_pretraining_is_a_candidate(toy_domains: Any, inputs: dict[str, Any], tmp_path: Path) -> None:
    """Two of them keep two checkpoints; without target labels they are judged by images they were not trained on."""
    bare = Manifest(toy_domains.target.frame.assign(label=None))
    given = candidates(
        {"name": "small_cnn", "weights": "pretrain"},
        {"name": "small_cnn", "weights": "pretrain", "image_size_px": 16},
        RANDOM,
        pretrain={"epochs": 1, "batch_size": 8},
    )
    scratch = tmp_path / "scratch"
    result = run(given, toy_domains.context(scratch=scratch), **inputs | {"target_manifest": bare})
    ranked = result.outputs["ranking"]
    assert 3 == len({row.digest for row in ranked.rows})
    assert ("source", "val", 12) == (ranked.labels_from, ranked.split, ranked.images)


def test_without_candidates_the_ranking_is_empty(toy_domains: Any) -> None:
    """It is written all the same: an output that comes and goes would be no output."""
    result = run(Params(weights="none"), toy_domains.context())
    assert [] == result.outputs["ranking"].rows


def test_labels_are_looked_for_before_anything_is_fetched(toy_domains: Any, inputs: dict[str, Any]) -> None:
    """One class only: refused, though the candidate's file is missing too."""
    one = toy_domains.target.where(toy_domains.target.frame["label"] == "class1")
    nowhere = {"name": "small_cnn", "weights": {"file": "nowhere.pt"}}
    given = inputs | {"target_manifest": one, "source_manifest": Manifest.empty()}
    with pytest.raises(DataError, match="labelled images of at least two classes"):
        run(candidates(nowhere), toy_domains.context(), **given)


def test_a_candidate_that_cannot_be_fetched_is_named_by_its_key(toy_domains: Any, inputs: dict[str, Any]) -> None:
    """Which of them, counted from 0 as everywhere in params."""
    nowhere = {"name": "small_cnn", "weights": {"file": "nowhere.pt"}}
    with pytest.raises(WeightsError, match=r"nothing at .*nowhere\.pt[\s\S]*backbone\.candidates\.1\.weights"):
        run(candidates(RANDOM, nowhere), toy_domains.context(), **inputs)


def test_one_file_under_two_names_is_refused(toy_domains: Any, inputs: dict[str, Any]) -> None:
    """Equal weights at an equal size, however they are called."""
    (toy_domains.workspace / "copy.safetensors").write_bytes((toy_domains.workspace / "mine.safetensors").read_bytes())
    copy = {"name": "small_cnn", "weights": {"file": "copy.safetensors"}}
    with pytest.raises(WeightsError, match="same weights of small_cnn as numbers 0 and 2"):
        run(candidates(MINE, RANDOM, copy), toy_domains.context(), **inputs)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ([RANDOM, MINE, RANDOM], ["numbers 0 and 2, counted from 0, are the same", "backbone.candidates in"]),
        ([RANDOM, {"name": "resnt18", "weights": "none"}], ["Did you mean 'resnet18'?", "backbone.candidates.1.name"]),
        ([{"name": "resnet18", "wieghts": "none"}], ["Did you mean 'weights'?", "backbone.candidates.0.wieghts"]),
        ([{"name": "resnet18"}], ["a value for it; found nothing", "backbone.candidates.0.weights"]),
        ("resnet18", ["a list, each entry after a dash; found 'resnet18'", "backbone.candidates in"]),
    ],
)
def test_wrong_candidates_are_told_in_our_words(given: Any, parts: list[str]) -> None:
    """The key, what was found, and the nearest name."""
    with pytest.raises(ParamsError) as refused:
        settings.parse({"backbone": {"candidates": given}}, "params.yaml")
    assert all(part in str(refused.value) for part in parts), str(refused.value)


def test_v1_and_v2_of_one_architecture_are_two_candidates() -> None:
    """And so are two sizes of the same weights."""
    both = [{"name": "resnet50", "weights": f"IMAGENET1K_V{version}"} for version in (1, 2)]
    assert 3 == len(candidates(*both, {**both[0], "image_size_px": 160}).candidates)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"weights": "none"}, ()),
        ({"weights": "pretrain"}, ("source_manifest",)),
        ({"candidates": [RANDOM]}, ("label_space", "source_manifest", "target_manifest")),
    ],
)
def test_the_stage_depends_on_images_only_where_it_looks_at_them(given: Any, expected: tuple[str, ...]) -> None:
    """A fetched backbone is not stale because an image was added; a ranked one is."""
    assert expected == BY_NAME["backbone"].inputs_used(Settings(backbone=given))


def test_every_candidates_file_is_among_the_stages_deps() -> None:
    """A file that two candidates use is one dep."""
    given = Settings(backbone={"candidates": [RANDOM, MINE, {**MINE, "image_size_px": 16}]})
    places = outside.places(BY_NAME["backbone"], given)
    assert [("backbone.candidates.1.weights.file", "mine.safetensors")] == [(key, path) for key, path, _ in places]
