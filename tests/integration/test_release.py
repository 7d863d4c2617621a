"""From a verdict to the registry, the hand-off folder and the history, and back: with MLflow, without Prefect."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration_tools import migrated_store

from pipeline.core import digests, file_state
from pipeline.core.errors import BundleError, GraftlineError, RegistryError, ServiceError, StoreError
from pipeline.core.params import Params
from pipeline.evaluation.champion import ChampionPin
from pipeline.flow_params import Notify, Publish, Tracking
from pipeline.release import _desk, decide, pin, steps
from pipeline.release import publish as handing_off
from pipeline.release.history import History
from pipeline.release.signer import Signer
from pipeline.serving import bundle, golden, signing_key
from pipeline.serving.onnx_file import OnnxFile
from pipeline.serving.signature import digest_of_content
from pipeline.tracking import session as tracking_session
from pipeline.tracking.registry import Registry


class ToySettings(Params):
    """The part of the settings that the release reads."""

    model: str = "digits"
    tracking: Tracking = Tracking()
    publish: Publish = Publish()
    notify: Notify = Notify()


SETTINGS = ToySettings()
Train = Callable[..., None]


@pytest.fixture(autouse=True)
def _no_server_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return migrated_store(tmp_path_factory.mktemp("migrated"))


@pytest.fixture
def workspace(tmp_path: Path, migrated: Path) -> Path:
    folder = tmp_path / "my workspace"
    (folder / ".graftline").mkdir(parents=True)
    shutil.copyfile(migrated, folder / ".graftline/mlflow.db")
    return folder


@pytest.fixture
def train(workspace: Path) -> Train:
    """Stands for the stages: leaves a model that differs by ``bias``, a verdict and a bundle in the workspace."""

    def stages(bias: float, *, passed: bool = True, gates: tuple[str, ...] = ("accuracy_floor", "parity")) -> None:
        write_model(workspace / "models/model.onnx", bias)
        steps.pin_champion(workspace, SETTINGS)  # type: ignore[arg-type]
        findings = [finding(gate, passed or gate != gates[0]) for gate in gates]
        write(workspace / "reports/verdict.json", {"passed": passed, "findings": findings})
        write(workspace / "reports/metrics.json", {"accuracy": 0.9})
        write(workspace / "reports/validation.json", {"profile": {"target": {"images": int(bias * 100)}}})
        write_bundle(workspace, {"passed": passed, "gates": gates})

    return stages


def release(workspace: Path, settings: Any = SETTINGS) -> decide.Outcome:
    """The steps in the flow's order, without its tasks, report and notices."""
    steps.recover(workspace, settings)
    outcome = steps.settled(workspace, settings)
    if outcome is not None:
        return outcome
    run_id = steps.start_run(workspace, settings)
    steps.record_run(workspace, settings, run_id)
    with contextlib.ExitStack() as undo:
        undo.callback(steps.finish_run, workspace, settings, run_id, None)
        version = steps.register(workspace, settings, run_id)
        undo.callback(steps.withdraw, workspace, settings, version, "broken off")
        outcome = decide_on(workspace, settings, version, undo)
        undo.pop_all()
    steps.finish_run(workspace, settings, run_id, outcome)
    return outcome


def decide_on(workspace: Path, settings: Any, version: int, undo: contextlib.ExitStack) -> decide.Outcome:
    if not decide.judged(workspace).verdict.passed:
        return steps.hold(workspace, settings, version)
    steps.smoke_test(workspace, settings, version)
    promotion = steps.promote(workspace, settings, version)
    undo.callback(steps.undo_promote, workspace, settings, promotion)
    published = steps.publish(workspace, settings, version)
    undo.callback(steps.undo_publish, workspace, settings, published)
    return steps.conclude(workspace, settings, promotion)


def finding(gate: str, passed: bool) -> dict[str, Any]:
    return {"gate": gate, "passed": passed, "observed": "0.7", "required": "0.8", "why": "as measured"}


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_model(path: Path, bias: float) -> None:
    """uint8 images [batch, height, width, 3] → three classes by mean colour, shifted by ``bias``."""
    import onnx
    from onnx import TensorProto, helper

    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 3]) for n in ("logits", "probabilities")]
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Add", ["means", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("bias", TensorProto.FLOAT, [3], [bias, 0.0, 0.0]),
    ]
    graph = helper.make_graph(nodes, "toy", [images], outputs, constants)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, {"classes": json.dumps(["a", "b", "c"])})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def write_bundle(workspace: Path, facts: dict[str, Any]) -> None:
    folder = workspace / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    images = [np.full((4, 5, 3), value, dtype=np.uint8) for value in (0, 1)]
    model = OnnxFile.load(workspace / "models/model.onnx")
    contents = bundle.Contents("digits", model, ["a", "b", "c"], ["black", "grey"], images, "# A toy", "{}", facts)
    bundle.write(folder, contents)


def pointed(workspace: Path) -> str | None:
    return handing_off.pointed_at(workspace / "handoff")


def registry(workspace: Path) -> Registry:
    return Registry(tracking_session.open_session(workspace, SETTINGS.tracking.uri, "graftline"), "digits")


def aliases(workspace: Path) -> dict[str, int]:
    return {alias: version.number for version in registry(workspace).versions() for alias in version.aliases}


def runs_of(workspace: Path) -> list[Any]:
    opened = tracking_session.open_session(workspace, SETTINGS.tracking.uri, "graftline")
    return list(opened.client.search_runs([opened.experiment_id]))


def actions(workspace: Path) -> list[tuple[str, int]]:
    return [(entry.action, entry.version) for entry in History(workspace).entries]


def test_first_model_that_passes_is_champion(workspace: Path, train: Train) -> None:
    """Registered, promoted, handed off, written down, and one run that says so."""
    train(0.1)
    outcome = release(workspace)
    assert "Gates: 2 passed, 0 failed · champion digits v1 · handoff/v1" == outcome.line
    assert {"champion": 1} == aliases(workspace)
    assert digests.of_path(workspace / "bundle") == digest_of_content(workspace / "handoff/current")
    assert [("promoted", 1)] == actions(workspace)
    (run,) = runs_of(workspace)
    assert ("FINISHED", "promoted") == (run.info.status, run.data.tags["outcome"])


def test_model_that_fails_is_held(workspace: Path, train: Train) -> None:
    """Kept as challenger with the reason; the hand-off is not touched."""
    train(0.1)
    release(workspace)
    train(0.2, passed=False)
    outcome = release(workspace)
    assert ("held", "accuracy_floor: as measured") == (outcome.kind, outcome.reason)
    assert (
        "Gates: 1 passed, 1 failed (accuracy_floor) · held digits v2 · champion digits v1 · handoff/v1" == outcome.line
    )
    assert ({"champion": 1, "challenger": 2}, "v1") == (aliases(workspace), pointed(workspace))
    assert "accuracy_floor: as measured" == registry(workspace).version(2).tags["held"]
    assert not (workspace / "handoff/v2").exists()


def test_nothing_changed_makes_nothing(workspace: Path, train: Train) -> None:
    """The same model with the same verdict: no run, no version, no entry."""
    train(0.1)
    release(workspace)
    train(0.1)
    outcome = release(workspace)
    assert "Gates: 2 passed, 0 failed · nothing changed · champion digits v1 · handoff/v1" == outcome.line
    assert (1, 1, 1) == (len(runs_of(workspace)), len(registry(workspace).versions()), len(actions(workspace)))


def test_second_champion_remembers_the_first(workspace: Path, train: Train) -> None:
    """v2 replaces v1; v1 is previous and stays in the hand-off folder."""
    for bias in (0.1, 0.2):
        train(bias)
        outcome = release(workspace)
    assert (2, 1) == (outcome.champion, outcome.previous)
    assert ({"champion": 2, "previous": 1}, "v2") == (aliases(workspace), pointed(workspace))
    assert (workspace / "handoff/v1/model.onnx").is_file()


def test_rollback_brings_the_first_back_and_it_stays(workspace: Path, train: Train) -> None:
    """Registry, pointer and history go back; repeating the unchanged run does not promote v2 again."""
    for bias in (0.1, 0.2):
        train(bias)
        release(workspace)
    line = steps.rollback(workspace, SETTINGS, reason="complaints")  # type: ignore[arg-type]
    assert "champion digits v1 (rolled back from v2) · handoff/v1" == line
    assert ({"champion": 1}, "v1") == (aliases(workspace), pointed(workspace))
    train(0.2)
    outcome = release(workspace)
    assert ("unchanged", 1) == (outcome.kind, outcome.champion)
    assert [("promoted", 1), ("promoted", 2), ("rolled_back", 1)] == actions(workspace)


def test_a_rollback_to_a_failed_version_says_so(workspace: Path, train: Train) -> None:
    """One that somebody had promoted against its gates comes back as it went; what is compared with follows."""
    train(0.1)
    release(workspace)
    train(0.2, passed=False)
    release(workspace)
    steps.promote_version(workspace, SETTINGS, 2, reason="it is urgent")  # type: ignore[arg-type]
    train(0.3)
    release(workspace)
    line = steps.rollback(workspace, SETTINGS, reason="complaints")  # type: ignore[arg-type]
    assert "champion digits v2 (rolled back from v3) · handoff/v2 · its gates had failed" == line
    assert 2 == pin.read_pin(workspace).version
    steps.promote_version(workspace, SETTINGS, 1, reason="better")  # type: ignore[arg-type]
    assert 1 == pin.read_pin(workspace).version


def test_rollback_goes_back_step_by_step(workspace: Path, train: Train) -> None:
    """Twice back from v3 is v1, never forward to what was rolled back; a third time there is nothing left."""
    for bias in (0.1, 0.2, 0.3):
        train(bias)
        release(workspace)
    steps.rollback(workspace, SETTINGS, reason="a")  # type: ignore[arg-type]
    assert {"champion": 2, "previous": 1} == aliases(workspace)
    steps.rollback(workspace, SETTINGS, reason="b")  # type: ignore[arg-type]
    assert {"champion": 1} == aliases(workspace)
    with pytest.raises(RegistryError, match="Expected a previous of 'digits'"):
        steps.rollback(workspace, SETTINGS, reason="c")  # type: ignore[arg-type]


def test_lost_hand_off_is_made_again(workspace: Path, train: Train) -> None:
    """A version's folder that somebody deleted comes back, equal, from what MLflow keeps."""
    train(0.1)
    release(workspace)
    first = digest_of_content(workspace / "handoff/v1")
    train(0.2)
    release(workspace)
    shutil.rmtree(workspace / "handoff/v1")
    steps.rollback(workspace, SETTINGS, reason="complaints")  # type: ignore[arg-type]
    assert (first, "v1") == (digest_of_content(workspace / "handoff/v1"), pointed(workspace))


def test_held_version_can_be_promoted_by_hand(workspace: Path, train: Train) -> None:
    """People may overrule a gate; the history has their reason, the version is held no more."""
    train(0.1)
    release(workspace)
    train(0.2, passed=False)
    release(workspace)
    line = steps.promote_version(workspace, SETTINGS, 2, reason="the floor was wrong")  # type: ignore[arg-type]
    assert "champion digits v2 (before: v1) · handoff/v2 · its gates had failed" == line
    assert ({"champion": 2, "previous": 1}, "v2") == (aliases(workspace), pointed(workspace))
    assert "held" not in registry(workspace).version(2).tags
    assert "the floor was wrong" == History(workspace).entries[-1].reason


def test_every_way_into_the_handoff_signs(workspace: Path, train: Train) -> None:
    """By a verdict, by a person, by a rollback, and made again from MLflow."""
    train(0.1)
    release(workspace)
    train(0.2, passed=False)
    release(workspace)
    steps.promote_version(workspace, SETTINGS, 2, reason="by hand")  # type: ignore[arg-type]
    shutil.rmtree(workspace / "handoff/v1")
    steps.rollback(workspace, SETTINGS, reason="complaints")  # type: ignore[arg-type]
    signer = Signer(workspace, None)
    assert [True, True] == [signer.has_signed(workspace / "handoff" / name) for name in ("v1", "v2")]


@pytest.mark.parametrize("touched", ["labels.txt", "model.sig"])
def test_what_was_touched_in_the_handoff_is_never_signed(workspace: Path, train: Train, touched: str) -> None:
    """A folder that does not verify, or has no signature, is made again from what MLflow keeps; it is not believed."""
    train(0.1)
    release(workspace)
    (workspace / "handoff/v1/labels.txt").write_text("c\nb\na\n")
    if touched == "model.sig":
        (workspace / "handoff/v1/model.sig").unlink()
    assert "unchanged" == release(workspace).kind
    assert "a\nb\nc\n" == (workspace / "handoff/v1/labels.txt").read_text()
    assert Signer(workspace, None).has_signed(workspace / "handoff/v1")


def test_a_new_key_signs_the_champion_anew(workspace: Path, train: Train) -> None:
    """The next run hands it off again; nothing else is a reason to."""
    train(0.1)
    release(workspace)
    for half in (signing_key.OWN, signing_key.PUBLIC):
        (workspace / half).unlink()
    assert "unchanged" == release(workspace).kind
    assert Signer(workspace, None).has_signed(workspace / "handoff/v1")


def test_broken_publication_puts_everything_back(
    workspace: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses: champion, pointer and history are as before; the next run finishes the work."""
    train(0.1)
    release(workspace)
    train(0.2)

    def refuse(*_: object) -> None:
        raise ServiceError("No space left.")

    with monkeypatch.context() as patch:
        patch.setattr(handing_off, "publish", refuse)
        with pytest.raises(ServiceError, match="No space left"):
            release(workspace)
    assert ({"champion": 1}, "v1") == (aliases(workspace), pointed(workspace))
    assert [("promoted", 1)] == actions(workspace)
    assert "FAILED" in [run.info.status for run in runs_of(workspace)]
    assert "promoted" == release(workspace).kind
    assert {"champion": 2, "previous": 1} == aliases(workspace)
    assert "held" not in registry(workspace).version(2).tags


@pytest.mark.parametrize("killed_before", ["publish", "conclude"])
def test_killed_promotion_is_finished_by_the_next_run(
    workspace: Path, train: Train, monkeypatch: pytest.MonkeyPatch, killed_before: str
) -> None:
    """A process that dies after the alias moved leaves no champion without a bundle and no gap in the history."""
    train(0.1)
    release(workspace)
    train(0.2)
    run_id = steps.start_run(workspace, SETTINGS)  # type: ignore[arg-type]
    version = steps.register(workspace, SETTINGS, run_id)  # type: ignore[arg-type]
    steps.record_run(workspace, SETTINGS, run_id)  # type: ignore[arg-type]
    steps.promote(workspace, SETTINGS, version)  # type: ignore[arg-type]
    if killed_before == "conclude":
        steps.publish(workspace, SETTINGS, version)  # type: ignore[arg-type]
    said = steps.recover(workspace, SETTINGS)  # type: ignore[arg-type]
    assert "finished the promotion that was killed: champion digits v2 · handoff/v2" == said[0]
    assert f"closed the MLflow run {run_id}, which was killed" == said[1]
    steps.pin_champion(workspace, SETTINGS)  # type: ignore[arg-type]
    outcome = release(workspace)
    assert ("unchanged", 2, 1) == (outcome.kind, outcome.champion, outcome.previous)
    assert ({"champion": 2, "previous": 1}, "v2") == (aliases(workspace), pointed(workspace))
    assert [("promoted", 1, None), ("promoted", 2, 1)] == [
        (entry.action, entry.version, entry.previous) for entry in History(workspace).entries
    ]


def test_killed_promotion_is_finished_whatever_comes_next(workspace: Path, train: Train) -> None:
    """Other data since, and a hold: the promotion that was under way is in the history and in the hand-off all the
    same, before the hold."""
    train(0.1)
    release(workspace)
    train(0.2)
    killed_while_promoting(workspace)
    train(0.3, passed=False)
    outcome = release(workspace)
    assert outcome.line.endswith("held digits v3 · champion digits v2 · handoff/v2")
    assert ({"champion": 2, "previous": 1, "challenger": 3}, "v2") == (aliases(workspace), pointed(workspace))
    assert [("promoted", 1), ("promoted", 2), ("held", 3)] == actions(workspace)


def killed_while_promoting(workspace: Path) -> None:
    """The steps of a run up to the aliases, and nothing more."""
    run_id = steps.start_run(workspace, SETTINGS)  # type: ignore[arg-type]
    steps.record_run(workspace, SETTINGS, run_id)  # type: ignore[arg-type]
    version = steps.register(workspace, SETTINGS, run_id)  # type: ignore[arg-type]
    steps.promote(workspace, SETTINGS, version)  # type: ignore[arg-type]


def test_killed_promotion_that_cannot_be_finished_is_taken_back(workspace: Path, train: Train) -> None:
    """Its bundle is lost: aliases and pointer are as before, and the next run is not stopped by it."""
    train(0.1)
    release(workspace)
    train(0.2)
    killed_while_promoting(workspace)
    shutil.rmtree(workspace / ".graftline/mlartifacts")
    said = steps.recover(workspace, SETTINGS)  # type: ignore[arg-type]
    assert said[0].startswith("took back the promotion that was killed: expected the model of digits v2")
    assert ({"champion": 1}, "v1") == (aliases(workspace), pointed(workspace))
    assert [("promoted", 1)] == actions(workspace)
    assert [] == steps.recover(workspace, SETTINGS)  # type: ignore[arg-type]


def test_data_that_go_back_bring_their_model_back(workspace: Path, train: Train) -> None:
    """v1's data again, after v2 replaced it by a verdict: compared with v2 it passes, so it is champion again; and so
    on, back and forth. An unchanged run changes nothing."""
    for bias in (0.1, 0.2, 0.1, 0.2):
        train(bias)
        assert "promoted" == release(workspace).kind
        assert "unchanged" == release(workspace).kind
    assert ({"champion": 2, "previous": 1}, "v2") == (aliases(workspace), pointed(workspace))
    assert [1, 2, 1, 2] == [version for _, version in actions(workspace)]


def test_rollback_by_two_stays_too(workspace: Path, train: Train) -> None:
    """v3 would now be compared with v1, which is a new comparison; a person has replaced it all the same."""
    for bias in (0.1, 0.2, 0.3):
        train(bias)
        release(workspace)
    for reason in ("a", "b"):
        steps.rollback(workspace, SETTINGS, reason=reason)  # type: ignore[arg-type]
    train(0.3)
    outcome = release(workspace)
    assert ("unchanged", 1) == (outcome.kind, outcome.champion)


def test_rollback_to_the_champion_itself_is_refused(workspace: Path, train: Train) -> None:
    """Aliases that somebody has set by hand: nothing is written, and the message says what to do."""
    train(0.1)
    release(workspace)
    registry(workspace).crown(1, 1, expected_champion=1)
    with pytest.raises(RegistryError, match="found v1 as both") as caught:
        steps.rollback(workspace, SETTINGS, reason="a")  # type: ignore[arg-type]
    assert "graftline promote VERSION" in caught.value.remedy
    assert [("promoted", 1)] == actions(workspace)


@pytest.mark.parametrize("passed", [True, False])
def test_registry_that_fails_at_the_end_writes_no_history(
    workspace: Path, train: Train, monkeypatch: pytest.MonkeyPatch, passed: bool
) -> None:
    """The history is written last: what failed and was put back is not in it, and a retry writes it once."""
    train(0.1)
    release(workspace)
    train(0.2, passed=passed)

    def gone(*_: object, **__: object) -> None:
        raise ServiceError("The registry is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(steps, "_outcome", gone)
        with pytest.raises(ServiceError, match="is gone"):
            release(workspace)
    assert ({"champion": 1}, "v1") == (aliases(workspace), pointed(workspace))
    assert [("promoted", 1)] == actions(workspace)
    kind = release(workspace).kind
    assert [("promoted", 1), (kind, 2)] == actions(workspace)
    assert ("promoted" if passed else "held") == kind


def test_alias_moved_meanwhile_stops_the_promotion(workspace: Path, train: Train) -> None:
    """The verdict compared with v1; somebody has promoted another one since, and that one stays."""
    train(0.1)
    release(workspace)
    train(0.2, passed=False)
    release(workspace)
    train(0.3)
    registry(workspace).crown(2, 1, expected_champion=1)
    with pytest.raises(RegistryError, match="Expected v1 as champion"):
        release(workspace)
    assert 2 == aliases(workspace)["champion"]


def test_wrong_answers_from_the_registry_are_not_promoted(
    workspace: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smoke test compares with the golden outputs: a bundle that disagrees stops the release."""
    train(0.1)
    monkeypatch.setattr(golden.Golden, "difference", lambda *_: 0.5)
    monkeypatch.setattr(bundle, "verify", lambda *_: None)
    with pytest.raises(GraftlineError, match="does not repeat the golden answers"):
        release(workspace)
    assert ({}, None) == (aliases(workspace), pointed(workspace))


def test_bundle_of_another_model_is_not_published(workspace: Path, train: Train) -> None:
    """A model that was exported after the bundle was packaged is not promoted with the old bundle."""
    train(0.1)
    write_model(workspace / "models/model.onnx", 0.2)
    with pytest.raises(BundleError, match="found one of another model"):
        release(workspace)
    assert ({}, None) == (aliases(workspace), pointed(workspace))


def test_damaged_bundle_is_not_published(workspace: Path, train: Train) -> None:
    """Every file of the bundle is checked before anything is promoted."""
    train(0.1)
    (workspace / "bundle/labels.txt").write_text("x", encoding="utf-8")
    with pytest.raises(BundleError, match=r"labels\.txt with another digest"):
        release(workspace)
    assert ({}, None) == (aliases(workspace), pointed(workspace))


def test_pin_compares_with_the_champion_only_while_there_is_a_challenger(workspace: Path, train: Train) -> None:
    """Before v1 there is nobody; for v2 it is v1; after v2's promotion the pin stays, so that nothing becomes stale."""
    train(0.1)
    assert None is pin.read_pin(workspace).version
    release(workspace)
    assert "no champion to compare with" == steps.pin_champion(workspace, SETTINGS)  # type: ignore[arg-type]
    train(0.2)
    pinned = (workspace / "state/champion.json").read_bytes()
    read = ChampionPin.load(workspace / "state/champion.json")
    assert (1, {"target": {"images": 10}}) == (read.version, read.profile)
    assert digests.of_file(read.file(workspace)) == read.sha256  # type: ignore[arg-type]
    release(workspace)
    assert "compared with digits v1" == steps.pin_champion(workspace, SETTINGS)  # type: ignore[arg-type]
    assert pinned == (workspace / "state/champion.json").read_bytes()


@pytest.mark.parametrize("second", ["promoted", "held"])
def test_a_store_that_nobody_has_written_to_is_not_opened(
    workspace: Path, train: Train, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """Who is champion, and that this was decided before, is known from the last run; so is who was compared with."""
    train(0.1)
    release(workspace)
    train(0.2, passed=second == "promoted")
    assert second == release(workspace).kind

    def opened(*_: object) -> None:
        raise AssertionError("the store was opened")

    monkeypatch.setattr(file_state, "SETTLED_NS", -(10**12))
    steps.settled(workspace, SETTINGS)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(_desk, "open_session", opened)
        pinned = steps.pin_champion(workspace, SETTINGS)  # type: ignore[arg-type]
        settled = steps.settled(workspace, SETTINGS)  # type: ignore[arg-type]
    assert ("compared with digits v1", "unchanged") == (pinned, settled and settled.kind)
    registry(workspace).tag(1, {"note": "somebody was here"})
    monkeypatch.setattr(_desk, "open_session", opened)
    with pytest.raises(AssertionError, match="the store was opened"):
        steps.settled(workspace, SETTINGS)  # type: ignore[arg-type]


def test_new_verdict_over_the_champion_is_written_down(workspace: Path, train: Train) -> None:
    """Another gate, the same model: no second version, the bundle with the new verdict is handed off."""
    train(0.1)
    release(workspace)
    train(0.1, gates=("accuracy_floor", "parity", "latency"))
    outcome = release(workspace)
    assert ("promoted", 1, 1) == (outcome.kind, outcome.version, len(registry(workspace).versions()))
    assert [1] == History(workspace).champions("digits")


def test_lost_registry_is_not_begun_again_unasked(workspace: Path, train: Train, migrated: Path) -> None:
    """In an empty one the next challenger would be compared with nothing, and be a second v1: before any stage runs it
    is said what is missing, and the history moved away is a new beginning."""
    train(0.1)
    release(workspace)
    elsewhere = SETTINGS.model_copy(update={"tracking": Tracking(uri="sqlite:///.graftline/other.db")})
    shutil.copyfile(migrated, workspace / ".graftline/other.db")
    for begin in (steps.recover, steps.pin_champion, steps.check_continuity):
        with pytest.raises(RegistryError) as caught:
            begin(workspace, elsewhere)  # type: ignore[operator]
        assert caught.value.expected.startswith("digits v1, champion since 20")
        assert "no version of 'digits' at all" == caught.value.found
        assert caught.value.where.endswith("other.db")
        assert "MLFLOW_TRACKING_URI" in caught.value.remedy

    (workspace / "state/history.jsonl").rename(workspace / "state/history-until-now.jsonl")
    shutil.rmtree(workspace / "handoff")
    shutil.rmtree(workspace / ".graftline/mlartifacts")
    steps.pin_champion(workspace, elsewhere)  # type: ignore[arg-type]
    outcome = release(workspace, elsewhere)
    assert ("promoted", 1) == (outcome.kind, outcome.version)


def test_the_registry_of_another_history_is_found_out(workspace: Path, train: Train) -> None:
    """An older backup lacks the champion, another team's has another model under its number. What a person promotes
    there is the champion from then on."""
    train(0.1)
    release(workspace)
    history = History(workspace)
    history.append(model="digits", action="promoted", version=1, previous=None, reason="", model_sha256="f" * 64)
    with pytest.raises(RegistryError) as caught:
        steps.check_continuity(workspace, SETTINGS)  # type: ignore[arg-type]
    assert caught.value.found.startswith("another model as v1, sha256 ")
    assert caught.value.found.endswith(" for ffffffffffff…")

    history.append(model="digits", action="rolled_back", version=3, previous=1, reason="", model_sha256="3" * 64)
    history.append(model="digits", action="held", version=4, previous=3, reason="", model_sha256="4" * 64)
    history.append(model="other", action="promoted", version=5, previous=3, reason="", model_sha256="5" * 64)
    with pytest.raises(RegistryError) as caught:
        steps.check_continuity(workspace, SETTINGS)  # type: ignore[arg-type]
    assert ("v1", True) == (caught.value.found, "digits v3" in caught.value.expected)

    assert "graftline promote VERSION" in caught.value.remedy
    steps.promote_version(workspace, SETTINGS, 1, reason="this one")  # type: ignore[arg-type]
    steps.check_continuity(workspace, SETTINGS)  # type: ignore[arg-type]


def test_a_champion_that_was_deleted_is_no_other_registry(workspace: Path, train: Train) -> None:
    """MLflow gives no number twice: one that is not there, below the highest, was deleted by somebody; another
    workspace's promotions have gone past it."""
    for bias in (0.1, 0.2, 0.3):
        train(bias)
        release(workspace)
    history = History(workspace)
    history.append(model="digits", action="rolled_back", version=2, previous=3, reason="", model_sha256="2" * 64)
    with pytest.raises(RegistryError, match="another model as v2"):
        steps.check_continuity(workspace, SETTINGS)  # type: ignore[arg-type]
    tracking_session.open_session(workspace, SETTINGS.tracking.uri, "graftline").client.delete_model_version(
        "digits", "2"
    )
    steps.check_continuity(workspace, SETTINGS)  # type: ignore[arg-type]


def test_a_store_that_does_not_answer_is_asked_again_before_comparing(
    workspace: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovering does without it, and so do the stages until the champion is needed."""
    train(0.1)
    release(workspace)

    def silent(*_: object) -> None:
        raise StoreError("no answer")

    monkeypatch.setattr(_desk.Desk, "versions", silent)
    assert [] == steps.recover(workspace, SETTINGS)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="no answer"):
        steps.pin_champion(workspace, SETTINGS)  # type: ignore[arg-type]


def test_versions_for_people(workspace: Path, train: Train) -> None:
    """One line each: number, aliases, verdict, and why it was held."""
    assert ["No version of digits yet: graftline run makes the first one."] == steps.version_lines(workspace, SETTINGS)  # type: ignore[arg-type]
    train(0.1)
    release(workspace)
    train(0.2, passed=False)
    release(workspace)
    first, second = steps.version_lines(workspace, SETTINGS)  # type: ignore[arg-type]
    assert first.startswith("digits v1   champion ")
    assert second.endswith("held: accuracy_floor: as measured")


def test_versions_for_programs(workspace: Path, train: Train) -> None:
    """The same as plain values that JSON can hold."""
    assert [] == steps.version_records(workspace, SETTINGS)  # type: ignore[arg-type]
    train(0.1)
    release(workspace)
    train(0.2, passed=False)
    release(workspace)
    first, second = json.loads(json.dumps(steps.version_records(workspace, SETTINGS)))  # type: ignore[arg-type]
    assert ("digits", 1, ["champion"], "passed", None) == tuple(
        first[key] for key in ("model", "version", "aliases", "verdict", "held")
    )
    assert ("failed", "accuracy_floor: as measured") == (second["verdict"], second["held"])
    assert second["created"].endswith("+00:00")
    assert 64 == len(second["sha256"])
    assert second["run_id"]
