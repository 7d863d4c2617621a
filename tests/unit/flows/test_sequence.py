"""The order of a retraining, whoever runs it."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from flows import sequence
from flows.sequence import Runner
from pipeline import params
from pipeline.core.errors import ChampionMovedError, DataError, ParamsError, ServiceError, StoreError, WorkspaceError
from pipeline.graph.table import STAGES
from pipeline.graph.through_dvc import Ran
from pipeline.params import Settings
from pipeline.tracking import unsent

STAGE_NAMES = [stage.name for stage in STAGES]
UNTIL_EVALUATE = STAGE_NAMES[: STAGE_NAMES.index("evaluate")]
FROM_EVALUATE = STAGE_NAMES[STAGE_NAMES.index("evaluate") :]
RELEASE = ["record_run", "(", "register", "smoke_test", "promote", "publish", "conclude", ")"]


class Notes(Runner):
    """Does nothing but take notes; ``results`` are what the steps return, or raise."""

    def __init__(self, workspace, results):
        super().__init__(workspace, self._hear)
        self.results, self.done, self.lines, self.shown = results, [], [], []
        self.__dict__["settings"] = Settings()

    def _hear(self, line):
        self.lines.append(line)

    def stage(self, name):
        self.done.append(name)
        self._raise(name)
        return Ran(name, fresh=True, line="7 images", seconds=1.25)

    def step(self, step, *arguments):
        self.done.append(step.name)
        self._raise(step.name)
        return self.results.get(step.name)

    def _raise(self, name):
        if isinstance(self.results.get(name), Exception):
            raise self.results[name]

    def show(self, what):
        self.shown.append(what)

    @contextmanager
    def transaction(self):
        self.done.append("(")
        yield
        self.done.append(")")


def outcome(kind):
    failed = ("accuracy_floor",) if kind == "held" else ()
    return SimpleNamespace(kind=kind, line=f"Gates: … · {kind}", failed=failed, reason="accuracy_floor: 0.5 of 0.7")


@pytest.fixture
def make_notes(tmp_path, monkeypatch):
    """Notes of a workspace in which ``stale`` stages are stale and the verdict is ``passed``."""

    def make(*, stale=(), passed=True, **results):
        monkeypatch.setattr("pipeline.graph.through_dvc.stale", lambda workspace: {name: ["x"] for name in stale})
        monkeypatch.setattr(
            sequence.decide, "judged", lambda workspace: SimpleNamespace(verdict=SimpleNamespace(passed=passed))
        )
        monkeypatch.setattr(sequence, "curves", lambda *arguments: nullcontext())
        monkeypatch.setattr(sequence.dvcfile, "write", lambda workspace, settings: False)
        (tmp_path / "params.yaml").write_text("# a workspace\nmodel: digits\n")
        return Notes(
            tmp_path,
            {
                "recover": [],
                "open_run": "run-1",
                "conclude": outcome("promoted"),
                "hold": outcome("held"),
                "register": 3,
            }
            | results,
        )

    return make


def test_what_the_params_alone_tell_is_told_before_anything_is_done(make_notes):
    """Not after the images have been looked at."""
    run = make_notes(stale=["ingest", "train"])
    run.settings = params.parse({"ingest": {"source": None}}, "params.yaml")
    with pytest.raises(DataError, match=r"labelled source images to pretrain on; found ingest.source: null"):
        sequence.retrain(run)
    assert [] == run.done


def test_a_passing_verdict_is_released_inside_one_transaction(make_notes):
    """register, smoke test, promote, publish and conclude stand or fall together; announcing comes after."""
    run = make_notes(stale=["ingest", "train"])
    ended = sequence.retrain(run)
    expected = ["recover", "pin_last_data", *UNTIL_EVALUATE, "pin_champion", *FROM_EVALUATE, "settled"]
    expected.insert(expected.index("train"), "open_run")
    assert [*expected, *RELEASE, "report", "finish_run", "announce"] == run.done
    assert "promoted" == ended.kind
    assert ["evidence", "report"] == run.shown


def test_a_failing_verdict_is_a_hold_and_not_a_failure(make_notes):
    """The challenger is registered and kept; nothing is promoted or published."""
    run = make_notes(passed=False)
    assert "held" == sequence.retrain(run).kind
    assert ["Gates: … · held", "  accuracy_floor: 0.5 of 0.7"] == run.lines[-2:]
    assert ["(", "register", "hold", ")"] == run.done[run.done.index("(") : run.done.index(")") + 1]
    assert not {"promote", "publish", "conclude"} & set(run.done)


def test_what_was_decided_before_is_not_decided_again(make_notes):
    """No MLflow run is opened, nobody is told, and the report of the deciding run stays."""
    run = make_notes(settled=outcome("unchanged"))
    page = run.workspace / "report/index.html"
    page.parent.mkdir()
    page.write_text("as it was")
    assert "unchanged" == sequence.retrain(run).kind
    assert ["recover", *UNTIL_EVALUATE, "pin_champion", *FROM_EVALUATE, "settled"] == run.done
    assert [] == run.shown


def test_a_missing_report_is_written_even_where_nothing_changed(make_notes):
    """After ``dvc repro`` there is none."""
    run = make_notes(settled=outcome("unchanged"))
    sequence.retrain(run)
    assert "report" == run.done[-1]


def test_the_data_profile_moves_only_before_a_stale_ingest(make_notes):
    """Moving it at another time would make validate stale."""
    run = make_notes()
    sequence.retrain(run)
    assert "pin_last_data" not in run.done


def test_a_part_of_the_stages_is_brought_up_to_date_and_nothing_is_released(make_notes):
    """What the last run left is pinned as in a whole retraining; no step touches tracking or the registry."""
    run = make_notes(stale=["ingest", "train"])
    sequence.bring_up_to_date(run, last="domains")
    assert ["pin_last_data", *STAGE_NAMES[: STAGE_NAMES.index("domains") + 1]] == run.done
    assert (run.workspace / "state/previous_domain.npz").is_file()


def test_each_stage_says_one_line_and_the_outcome_is_the_last(make_notes):
    """Counts and units from the stage, seconds from the executor."""
    run = make_notes()
    sequence.retrain(run)
    assert [f"{name:<9} 7 images  (1.2 s)" for name in STAGE_NAMES] == run.lines[: len(STAGE_NAMES)]
    assert "Gates: … · promoted" == run.lines[-1]


def overtaken():
    return ChampionMovedError(expected="v1 as champion", found="v2", where="the registry", remedy="Run again.")


def test_a_run_that_was_overtaken_evaluates_against_the_new_champion(make_notes):
    """Another workspace's promotion came first: nothing is promoted over it unseen, and training is not repeated."""
    run = make_notes()
    promote = iter([overtaken(), None])
    run._raise = lambda name: next_of(promote) if name == "promote" else None
    assert "promoted" == sequence.retrain(run).kind
    assert 2 == run.done.count("pin_champion") == run.done.count("evaluate") == run.done.count("promote")
    assert "another champion meanwhile (v2 instead of v1 as champion): evaluated again" in run.lines
    assert ["report", "finish_run", "announce"] == run.done[-3:]


def next_of(errors):
    if error := next(errors):
        raise error


def test_a_run_that_is_overtaken_every_time_says_so(make_notes):
    """It does not go on for ever."""
    run = make_notes(promote=overtaken())
    with pytest.raises(ChampionMovedError, match="found v2"):
        sequence.retrain(run)
    assert 1 + sequence.EVALUATE_AGAIN == run.done.count("promote")


def test_an_input_error_reaches_the_caller_as_it_is(make_notes):
    """The command line makes exit code 2 of it."""
    error = DataError(expected="images", found="none", where="ingest.target", remedy="Add some.")
    with pytest.raises(DataError) as raised:
        sequence.retrain(make_notes(validate=error))
    assert error is raised.value


def test_a_failed_run_is_closed_as_failed_in_mlflow(make_notes):
    """``finish_run`` is called, with no outcome, and the first error is the one that is seen."""
    run = make_notes(stale=["train"], train=DataError(expected="a", found="b", where="c", remedy="d"))
    with pytest.raises(DataError):
        sequence.retrain(run)
    assert "finish_run" == run.done[-1]


def test_trouble_with_closing_the_mlflow_run_does_not_hide_the_error(make_notes):
    """A tracking server that went away is mentioned, not raised."""
    error = DataError(expected="a", found="b", where="c", remedy="d")
    run = make_notes(stale=["train"], train=error, finish_run=ServiceError("no answer"))
    with pytest.raises(DataError):
        sequence.retrain(run)
    [kept] = unsent.waiting(run.workspace)
    said = f"The record of this run waits in .graftline/unsent/{kept.name} and is sent by the next run: no answer"
    assert said == run.lines[-1]


def test_training_does_not_need_a_tracking_server(make_notes):
    """Without one it is not shown, and the run goes on; the record is tried again when there is a result to record."""
    run = make_notes(stale=["train"], open_run=StoreError("no answer"))
    with pytest.raises(StoreError, match="no answer") as raised:
        sequence.retrain(run)
    assert {*STAGE_NAMES} < {*run.done}
    assert "Training is not shown in MLflow: no answer" in run.lines
    assert 2 == run.done.count("open_run")
    assert "register" not in run.done
    assert "the next graftline run finishes it, with nothing computed again." in str(raised.value)
    assert run.lines[-1].endswith("and is sent by the next run: it could not be opened")


def test_a_webhook_that_does_not_answer_does_not_undo_the_promotion(make_notes):
    """It is said, and the outcome stands."""
    run = make_notes(announce=ServiceError("The webhook (notify.webhook) did not answer."))
    assert "promoted" == sequence.retrain(run).kind
    assert ["Gates: … · promoted", "Nobody was told: The webhook (notify.webhook) did not answer."] == run.lines[-2:]


def test_a_webhook_without_an_address_is_found_before_the_stages(make_notes, monkeypatch):
    """Not after hours of training and a promotion that nobody is told of."""
    monkeypatch.delenv("GRAFTLINE_TEST_HOOK", raising=False)
    run = make_notes()
    run.__dict__["settings"] = Settings(notify={"webhook": "$GRAFTLINE_TEST_HOOK"})
    with pytest.raises(ParamsError, match="GRAFTLINE_TEST_HOOK"):
        sequence.retrain(run)
    assert [] == run.done


def test_a_report_that_cannot_be_written_does_not_undo_the_promotion(make_notes):
    """Whatever it stumbles over is said; people are told of the promotion."""
    run = make_notes(report=KeyError("accuracy"))
    assert "promoted" == sequence.retrain(run).kind
    assert "No report was written: KeyError: 'accuracy'" in run.lines
    assert ["evidence"] == run.shown
    assert ["report", "finish_run", "announce"] == run.done[-3:]


def test_what_a_killed_run_left_is_cleared_up_first_and_said(make_notes):
    """Before any stage."""
    run = make_notes(recover=["finished the promotion that was killed: champion digits v2 · handoff/v2"])
    sequence.retrain(run)
    assert "recover" == run.done[0]
    assert "finished the promotion that was killed: champion digits v2 · handoff/v2" == run.lines[0]


def test_assignments_go_into_the_params_first(make_notes):
    """Under the lock, and before the settings are read; the comments stay."""
    run = make_notes()
    run.assignments = ["seed=3"]
    del run.__dict__["settings"]
    sequence.retrain(run)
    assert "set seed: 0 → 3" == run.lines[0]
    assert 3 == run.settings.seed
    assert "# a workspace" in (run.workspace / "params.yaml").read_text()


def test_a_graph_out_of_step_is_mended_and_said(make_notes, monkeypatch):
    """A scheduled run never passes through the command line."""
    run = make_notes()
    monkeypatch.setattr(sequence.dvcfile, "write", lambda workspace, settings: True)
    sequence.retrain(run)
    assert "dvc.yaml brought in step with params.yaml and the installed code" == run.lines[0]


def test_no_workspace_is_left_as_it_is(make_notes):
    """No lock is made in a folder without params.yaml."""
    run = make_notes()
    (run.workspace / "params.yaml").unlink()
    with pytest.raises(WorkspaceError):
        sequence.retrain(run)
    assert [] == list(run.workspace.iterdir())
