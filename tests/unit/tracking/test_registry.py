"""Versions, aliases, and the file that comes out again."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.core import digests
from pipeline.core.errors import ChampionMovedError, RegistryError
from pipeline.tracking import bundles, runs
from pipeline.tracking import registry as registering
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
    path = registry.fetch(version, tmp_path / "out")
    assert (tmp_path / "out/model.onnx", model.read_bytes()) == (path, path.read_bytes())
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
    with pytest.raises(ChampionMovedError) as one:
        three.compare(7)
    assert one.value.expected.startswith("v7 as champion")
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
    registry: Registry, run_id: str, toy_model: ToyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every copy of the model in a bundle is left to the registry; the restored bundle is equal to the original, and
    nothing else is left anywhere."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
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
    assert [] == list((tmp_path / "here").iterdir())


def test_lost_bundle_is_named(three: Registry, run_id: str, tmp_path: Path) -> None:
    """A version whose run keeps no bundle cannot be handed off; nothing half-made is left."""
    with pytest.raises(RegistryError, match="bundle of v1"):
        bundles.restore_bundle(three, three.version(1), tmp_path / "restored", print)
    assert not (tmp_path / "restored").exists()


def test_a_version_knows_when_and_by_which_run_it_was_made(
    registry: Registry, run_id: str, toy_model: ToyModel
) -> None:
    """In UTC; it shows as its number."""
    version = registry.register(toy_model(0.5), run_id, {})
    assert abs(datetime.now(UTC) - version.created) < timedelta(minutes=5)
    assert UTC == version.created.tzinfo
    assert ("v1", ()) == (str(version), version.aliases)


def test_versions_come_oldest_first(three: Registry) -> None:
    """Also where MLflow gives them otherwise, and with more than one alias sorted by name."""
    three.crown(2, 2, expected_champion=None)
    assert [1, 2, 3] == [version.number for version in three.versions()]
    assert (CHAMPION, PREVIOUS) == three.version(2).aliases


def test_an_alias_that_is_not_set_says_what_to_do(three: Registry) -> None:
    """There are versions, but none was promoted."""
    with pytest.raises(RegistryError) as caught:
        three.require(CHAMPION)
    error = caught.value
    assert ("a champion of 'digits'", "none") == (error.expected, error.found)
    assert f"the registry at {three.session.shown_uri}" == error.where
    assert error.remedy == (
        "graftline models lists the versions; graftline run makes one, graftline promote VERSION makes one the "
        "champion."
    )
    three.crown(3, None, expected_champion=None)
    assert 3 == three.require(CHAMPION).number


def test_an_unknown_version_says_where_and_what_to_do(registry: Registry) -> None:
    with pytest.raises(RegistryError) as caught:
        registry.version(1)
    error = caught.value
    assert ("a version of 'digits' (none yet)", "v1") == (error.expected, error.found)
    assert f"the registry at {registry.session.shown_uri}" == error.where
    assert "graftline models lists them; graftline run makes a new one." == error.remedy


def test_what_is_lost_or_damaged_says_what_was_registered(three: Registry, workspace: Path, tmp_path: Path) -> None:
    """The digest that was registered, the one that was found, the place, and both remedies."""
    wanted = three.version(1)
    stored = three.session.client.get_model_version_download_uri("digits", "1")
    told = []
    for spoil in (lambda path: path.write_bytes(b"else"), lambda path: path.unlink()):
        for path in (workspace / ".graftline/mlartifacts").rglob("model.onnx"):
            spoil(path)
        with pytest.raises(RegistryError) as caught:
            three.fetch(wanted, tmp_path / "out")
        error = caught.value
        assert f"the model of digits v1, sha256 {wanted.sha256[:12]}…" == error.expected
        assert stored == error.where
        assert error.remedy == (
            "Put the stored file back from a backup (was the workspace moved?), or register it again with "
            "graftline run."
        )
        told.append(error.found)
    assert f"a file with sha256 {digests.of_bytes(b'else')[:12]}…" == told[0]
    assert re.fullmatch(r"nothing usable there \((OSError|MlflowException|FileNotFoundError)\)", told[1])


def test_a_file_that_two_registered_at_once_stays_once(three: Registry, run_id: str, toy_model: ToyModel) -> None:
    """On a server another workspace may have come a moment earlier: its version stays, and ours goes."""
    sha256 = digests.of_file(toy_model(2.0))
    later = three._create(toy_model(2.0), sha256, run_id)
    assert (4, sha256) == (later, three.version(4).sha256), "killed right after, it would be registered once more"
    assert 2 == three._first_of(sha256, later)
    assert [1, 2, 3] == [version.number for version in three.versions()]
    assert 2 == three._first_of(sha256, 2)
    assert 7 == three._first_of("unknown", 7)


def test_the_file_is_laid_out_as_a_server_needs_it(three: Registry, tmp_path: Path) -> None:
    """One weight file without external data, the packages at the versions that were tried here, an example of a
    request, the CPU; and the run and the digest are known to MLflow too."""
    import yaml
    from mlflow.artifacts import download_artifacts

    stored = three.session.client.get_model_version_download_uri("digits", "1")
    folder = Path(download_artifacts(artifact_uri=stored, dst_path=str(tmp_path), tracking_uri=three.session.uri))
    needed = (folder / "requirements.txt").read_text().split()
    names = ("mlflow", "onnx", "onnxruntime", "numpy")
    assert needed == [f"{name}=={importlib.metadata.version(name)}" for name in names]
    described = yaml.safe_load((folder / "MLmodel").read_text())
    assert described["flavors"]["onnx"]["providers"] == ["CPUExecutionProvider"]
    assert "model.onnx.data" not in {path.name for path in folder.rglob("*")}
    example = json.loads((folder / described["saved_input_example_info"]["artifact_path"]).read_text())
    images = example.get("inputs", example)["images"]
    assert (1, 32, 32, 3) == (len(images), len(images[0]), len(images[0][0]), len(images[0][0][0]))
    assert {"0"} == set(re.findall(r"\d+(?:\.\d+)?", json.dumps(images))), "whole numbers, as pixels are"
    version = three.session.client.get_model_version("digits", "1")
    logged = three.session.client.get_logged_model(described["model_id"])
    assert ("digits", "READY") == (logged.name, logged.status.value)
    assert (logged.source_run_id, logged.tags["sha256"]) == (version.run_id, version.tags["sha256"])
    assert described["run_id"] == version.run_id
    assert "onnx" == logged.model_type
    assert (logged.model_id, logged.artifact_location) == (described["model_uuid"], described["artifact_path"])


def test_large_weights_stay_in_the_file(registry: Registry, run_id: str, toy_model: ToyModel, tmp_path: Path) -> None:
    """MLflow would move them into a second file, which is none of what was judged: as many files as for a small one."""
    import onnx
    from onnx import TensorProto, helper

    weights = helper.make_tensor("weights", TensorProto.FLOAT, [4096], bytes(4 * 4096), raw=True)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4096]) for name in ("images", "logits")]
    nodes = [helper.make_node("Add", ["images", "weights"], ["logits"])]
    graph = helper.make_graph(nodes, "large", values[:1], values[1:], initializer=[weights])
    large = tmp_path / "large.onnx"
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), large)
    for model in (toy_model(1.0), large):
        registry.register(model, run_id, {})
    small, other = (file.parent for file in (registry.session.workspace / ".graftline/mlartifacts").rglob("MLmodel"))
    assert {path.name for path in small.iterdir()} == {path.name for path in other.iterdir()}


def test_a_file_that_is_registered_is_not_sent_again(
    three: Registry, run_id: str, toy_model: ToyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version is found by its digest before anything is uploaded."""
    monkeypatch.setattr(Registry, "_create", lambda *_: pytest.fail("uploaded again"))
    assert 2 == three.register(toy_model(2.0), run_id, {}).number


def test_a_file_that_another_registered_meanwhile_is_not_kept_twice(
    three: Registry, run_id: str, toy_model: ToyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look and our upload: register gives theirs, and ours is gone."""
    found = iter([None])
    real = Registry._number_of
    monkeypatch.setattr(Registry, "_number_of", lambda self, sha256: next(found, real(self, sha256)))
    assert 2 == three.register(toy_model(2.0), run_id, {}).number
    assert [1, 2, 3] == [version.number for version in three.versions()]


def test_a_version_that_somebody_else_made_is_listed(registry: Registry) -> None:
    """By MLflow's own client, without a digest or a run: it has neither, and is no file of ours."""
    registry._client.create_registered_model("digits")
    registry._client.create_model_version("digits", "file:///somewhere")
    [version] = registry.versions()
    assert (1, "", "") == (version.number, version.sha256, version.run_id)


def test_each_model_has_an_alias_lock_of_its_own(three: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name: on a server, that is all that tells two models' locks apart."""
    locked: list[str] = []
    real = registering.alias_lock
    monkeypatch.setattr(registering, "alias_lock", lambda session, name: locked.append(name) or real(session, name))
    three.challenge(2)
    three.crown(1, None, expected_champion=None)
    three.unalias(CHALLENGER, 2)
    assert ["digits"] * 3 == locked


def test_tags_are_set_and_removed(three: Registry) -> None:
    """Removing one that is not there is no error, and the others stay."""
    three.tag(1, {"held": "too slow", "note": "kept"})
    three.untag(1, "held", "never set")
    assert "held" not in three.version(1).tags
    assert "kept" == three.version(1).tags["note"]


def test_an_alias_is_removed_only_from_the_version_it_points_at(three: Registry) -> None:
    three.challenge(1)
    three.unalias(CHALLENGER, 2)
    assert {CHALLENGER: 1} == aliases(three)
    three.unalias(CHALLENGER, 1)
    three.unalias(CHALLENGER, 1)
    assert {} == aliases(three)


def test_a_challenger_that_lost_stays_when_another_is_crowned(three: Registry) -> None:
    """Only the champion is challenger no more."""
    three.challenge(3)
    three.crown(2, 1, expected_champion=None)
    assert {CHAMPION: 2, PREVIOUS: 1, CHALLENGER: 3} == aliases(three)


def test_no_alias_is_moved_to_a_version_that_is_not_there(three: Registry) -> None:
    """Neither of the two; ``previous`` would be moved first."""
    for champion, previous in ((9, 1), (1, 9)):
        with pytest.raises(RegistryError, match="found v9"):
            three.crown(champion, previous, expected_champion=None)
    assert {} == aliases(three)


def test_another_champion_is_told_with_what_to_do(three: Registry) -> None:
    three.crown(1, None, expected_champion=None)
    with pytest.raises(ChampionMovedError) as caught:
        three.compare(2, None)
    error = caught.value
    assert "none as champion of 'digits', the one this was decided against" == error.expected
    assert ("v1", f"the registry at {three.session.shown_uri}") == (error.found, error.where)
    assert "Somebody moved the alias meanwhile; graftline run compares with the champion of now." == error.remedy
    three.compare(2, 1)


def test_another_models_versions_are_not_ours(three: Registry, run_id: str, toy_model: ToyModel) -> None:
    """One store holds many models, and their names may begin alike."""
    other = Registry(three.session, "digits 2")
    assert [] == other.versions()
    other.register(toy_model(1.0), run_id, {})
    assert [1, 3] == [len(other.versions()), len(three.versions())]


# -- bundles -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(registry: Registry, run_id: str, toy_model: ToyModel, tmp_path: Path) -> tuple[Registry, Path]:
    """A registered version whose run keeps its bundle; and the folder of what is kept."""
    bundle = tmp_path / "bundle"
    (bundle / "golden").mkdir(parents=True)
    shutil.copyfile(toy_model(0.5), bundle / "model.onnx")
    for name in ("labels.txt", "golden/answers.json"):
        (bundle / name).write_text(name, encoding="utf-8")
    version = registry.register(toy_model(0.5), run_id, {})
    bundles.log_bundle(registry.session, run_id, bundle, version.sha256)
    return registry, next((registry.session.workspace / ".graftline/mlartifacts").rglob("bundle.json")).parent


def refusal(registry: Registry, destination: Path) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        bundles.restore_bundle(registry, registry.version(1), destination, print)
    assert not destination.exists()
    return caught.value


def test_a_bundle_is_kept_with_the_digest_of_each_file(kept: tuple[Registry, Path]) -> None:
    """Of the model too, which is not there a second time; the list is for people to read."""
    _, folder = kept
    listed = json.loads((folder / "bundle.json").read_text())
    assert ["golden/answers.json", "labels.txt", "model.onnx"] == list(listed)
    assert digests.of_bytes(b"labels.txt") == listed["labels.txt"]
    assert (folder / "bundle.json").read_text().startswith('{\n  "')
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"bundle.json", "bundle/labels.txt", "bundle/golden/answers.json"} == found


def test_a_file_of_the_bundle_that_is_lost_or_changed(kept: tuple[Registry, Path], tmp_path: Path) -> None:
    """Nothing is put in place, and the message names the file, the run and the remedy."""
    registry, folder = kept
    for name in ("labels.txt", "golden/answers.json"):
        file = folder / "bundle" / name
        content = file.read_bytes()
        for spoil in (lambda file=file: file.write_text("else"), file.unlink):
            spoil()
            error = refusal(registry, tmp_path / "restored")
            assert f"'{name}' missing or changed" == error.found
            assert "the bundle of v1 among the artifacts of its run" == error.expected
            assert f"run {registry.version(1).run_id}" == error.where
            assert error.remedy == (
                "Restore the hand-off folder or the artifacts from a backup, or retrain with graftline run."
            )
        file.write_bytes(content)


def test_restoring_leaves_nothing_behind(
    kept: tuple[Registry, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is fetched on the way goes with its temporary folder."""
    registry, _ = kept
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    bundles.restore_bundle(registry, registry.version(1), tmp_path / "restored", lambda _: None)
    assert (tmp_path / "restored/labels.txt").is_file()
    assert [] == list((tmp_path / "temporary").iterdir())


def test_a_bundle_stays_in_its_folder(kept: tuple[Registry, Path], tmp_path: Path) -> None:
    """The list is the store's word: a name that leads elsewhere is refused, and no list is no bundle."""
    registry, folder = kept
    for name in ("../labels.txt", "/etc/hostname", "a/../../b", "..\\b", "", "."):
        (folder / "bundle.json").write_text(json.dumps({name: "0" * 64}))
        error = refusal(registry, tmp_path / "restored")
        assert f"a file that is to lie outside the bundle, '{name}'" == error.found
        assert "the bundle of v1 among the artifacts of its run" == error.expected
        assert f"run {registry.version(1).run_id}" == error.where
    (folder / "bundle.json").unlink()
    assert "no bundle there (FileNotFoundError)" == refusal(registry, tmp_path / "restored").found


def test_the_run_that_keeps_the_bundle_may_be_another(kept: tuple[Registry, Path], tmp_path: Path) -> None:
    """A version that was registered again: its tag names the run; a signature that fails leaves nothing."""
    registry, _ = kept
    owner = registry.version(1).run_id
    registry.tag(1, {bundles.RUN_TAG: "0" * 32})
    assert "run " + "0" * 32 == refusal(registry, tmp_path / "restored").where
    registry.tag(1, {bundles.RUN_TAG: owner})

    def no_key(_: Path) -> None:
        raise KeyError("no key")

    with pytest.raises(KeyError):
        bundles.restore_bundle(registry, registry.version(1), tmp_path / "restored", no_key)
    assert not (tmp_path / "restored").exists()
