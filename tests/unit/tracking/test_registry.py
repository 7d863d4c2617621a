"""Versions, aliases, and the file that comes out again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core import digests
from pipeline.core.errors import RegistryError
from pipeline.tracking import bundles, runs
from pipeline.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry
from pipeline.tracking.session import Session

ToyModel = Callable[[float], Path]


@pytest.fixture
def registry(session: Session) -> Registry:
    return Registry(session, "digits")


@pytest.fixture
def run_id(session: Session) -> str:
    return runs.start(session, "digits")


@pytest.fixture
def three(registry: Registry, run_id: str, toy_model: ToyModel) -> Registry:
    """Versions 1, 2 and 3, no alias yet."""
    for bias in (1.0, 2.0, 3.0):
        registry.register(toy_model(bias), run_id, {})
    return registry


def aliases(registry: Registry) -> dict[str, int]:
    return {alias: version.number for version in registry.versions() for alias in version.aliases}


def test_registered_file_comes_back_byte_for_byte(
    registry: Registry, run_id: str, toy_model: ToyModel, tmp_path: Path
) -> None:
    """What the registry hands out is the very file that was judged, and the version knows its digest and run."""
    model = toy_model(0.5)
    version = registry.register(model, run_id, {"verdict": "passed"})
    assert model.read_bytes() == registry.fetch(version, tmp_path / "out").read_bytes()
    assert (1, digests.of_file(model), run_id) == (version.number, version.sha256, version.run_id)
    assert "passed" == version.tags["verdict"]


def test_same_file_makes_no_second_version(registry: Registry, run_id: str, toy_model: ToyModel) -> None:
    """Registering the same bytes again finds the version and renews its tags."""
    first = registry.register(toy_model(0.5), run_id, {"verdict": "failed"})
    second = registry.register(toy_model(0.5), run_id, {"verdict": "passed"})
    assert first.number == second.number == len(registry.versions())
    assert "passed" == second.tags["verdict"]


def test_version_is_an_mlflow_onnx_model_with_a_signature(three: Registry, tmp_path: Path) -> None:
    """MLflow itself can load it; the signature holds names, types and open dimensions."""
    import numpy as np
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model
    from mlflow.pyfunc import load_model

    stored = three.session.client.get_model_version_download_uri("digits", "1")
    folder = download_artifacts(artifact_uri=stored, dst_path=str(tmp_path), tracking_uri=three.session.uri)
    signature = Model.load(folder).signature
    assert [("images", (-1, -1, -1, 3), np.dtype("uint8"))] == [
        (spec.name, spec.shape, spec.type) for spec in signature.inputs.inputs
    ]
    assert ["logits", "probabilities"] == signature.outputs.input_names()
    answer = load_model(folder).predict({"images": np.zeros((2, 4, 4, 3), dtype=np.uint8)})
    assert (2, 3) == answer["probabilities"].shape


def test_damaged_file_is_refused(three: Registry, workspace: Path, tmp_path: Path) -> None:
    """A stored file that is not what was registered is never handed out."""
    for stored in (workspace / ".graftline/mlartifacts").rglob("model.onnx"):
        stored.write_bytes(b"something else")
    with pytest.raises(RegistryError, match="Expected the model of digits v1") as caught:
        three.fetch(three.version(1), tmp_path / "out")
    assert "a file with sha256" in caught.value.found


def test_lost_file_is_named(three: Registry, workspace: Path, tmp_path: Path) -> None:
    """A file that is gone is an error of the registry with a remedy, not MLflow's."""
    for stored in (workspace / ".graftline/mlartifacts").rglob("model.onnx"):
        stored.unlink()
    with pytest.raises(RegistryError) as caught:
        three.fetch(three.version(1), tmp_path / "out")
    assert "backup" in caught.value.remedy


def test_crown_moves_both_aliases(three: Registry) -> None:
    """The challenger that won is challenger no more."""
    three.challenge(1)
    three.crown(1, None, expected_champion=None)
    three.challenge(2)
    assert {CHAMPION: 1, CHALLENGER: 2} == aliases(three)
    three.crown(2, 1, expected_champion=1)
    assert {CHAMPION: 2, PREVIOUS: 1} == aliases(three)


def test_crown_compares_before_it_swaps(three: Registry) -> None:
    """Whoever decided against a champion of yesterday changes nothing."""
    three.crown(1, None, expected_champion=None)
    three.crown(2, 1, expected_champion=1)
    with pytest.raises(RegistryError) as caught:
        three.crown(3, 1, expected_champion=1)
    assert "v1 as champion of 'digits', the one this was decided against" == caught.value.expected
    assert ("v2", {CHAMPION: 2, PREVIOUS: 1}) == (caught.value.found, aliases(three))


def test_crown_can_be_repeated(three: Registry) -> None:
    """Killed between the two aliases, it is finished by doing it again."""
    three.crown(1, None, expected_champion=None)
    three.session.client.set_registered_model_alias("digits", PREVIOUS, "1")
    for _ in range(2):
        three.crown(2, 1, expected_champion=1)
    assert {CHAMPION: 2, PREVIOUS: 1} == aliases(three)


def test_no_version_removes_the_alias(three: Registry) -> None:
    """Undoing the first promotion leaves no champion at all."""
    three.crown(1, None, expected_champion=None)
    three.crown(None, None, expected_champion=1)
    assert {} == aliases(three)


def test_champion_is_not_its_own_challenger(three: Registry) -> None:
    """Registering the champion's file again does not make it challenger."""
    three.crown(1, None, expected_champion=None)
    three.challenge(1)
    assert {CHAMPION: 1} == aliases(three)


def test_unknown_version_lists_the_known(three: Registry) -> None:
    """The message says which versions there are."""
    with pytest.raises(RegistryError, match="found v9") as caught:
        three.crown(9, None, expected_champion=None)
    assert "a version of 'digits' (v1, v2, v3)" == caught.value.expected


def test_missing_alias_and_missing_model(registry: Registry) -> None:
    """Without a model the registry is empty, not broken; asking for the champion says what to do."""
    assert ([], None) == (registry.versions(), registry.at(CHAMPION))
    with pytest.raises(RegistryError) as caught:
        registry.require(CHAMPION)
    assert "no version of 'digits' at all" == caught.value.found
    assert "graftline run" in caught.value.remedy


def test_bundle_is_kept_without_the_model_and_restored_with_it(
    registry: Registry, run_id: str, toy_model: ToyModel, tmp_path: Path
) -> None:
    """Every copy of the model in a bundle is left to the registry; the restored bundle is equal to the original."""
    bundle = tmp_path / "bundle"
    (bundle / "triton/1").mkdir(parents=True)
    for copy in (bundle / "model.onnx", bundle / "triton/1/model.onnx"):
        copy.write_bytes(toy_model(0.5).read_bytes())
    (bundle / "labels.txt").write_text("a\nb\n", encoding="utf-8")
    version = registry.register(toy_model(0.5), run_id, {bundles.RUN_TAG: run_id})
    bundles.log_bundle(registry.session, run_id, bundle, version.sha256)
    signed: list[str] = []
    kept = [entry.path for entry in registry.session.client.list_artifacts(run_id, "bundle")]
    bundles.restore_bundle(registry, version, tmp_path / "restored", lambda folder: signed.append(folder.name))
    assert ["bundle/labels.txt"] == kept
    assert ["restored"] == signed
    assert digests.of_path(bundle) == digests.of_path(tmp_path / "restored")


def test_lost_bundle_is_named(three: Registry, run_id: str, tmp_path: Path) -> None:
    """A version whose run keeps no bundle cannot be handed off; nothing half-made is left."""
    with pytest.raises(RegistryError, match="bundle of v1"):
        bundles.restore_bundle(three, three.version(1), tmp_path / "restored", print)
    assert not (tmp_path / "restored").exists()
