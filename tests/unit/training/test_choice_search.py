"""auto: what it tries, what it refuses, what it keeps, and that labels of the test split have no say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from pipeline.core.context import Context
from pipeline.core.errors import TrainingError
from pipeline.data.manifest import Manifest
from pipeline.training import engine
from pipeline.training.choice import by_labels, search, trying, without_labels
from pipeline.training.choice.baseline import Baseline
from pipeline.training.choice.budget import Budget
from pipeline.training.choice.contest import Contender
from pipeline.training.choice.pairing import Paired
from pipeline.training.choice.situation import Situation
from pipeline.training.classifiers.linear_probe import UNSEEN_BIAS
from pipeline.training.classifiers.temperature import fit_temperature
from pipeline.training.strategies.auto import Params
from pipeline.training.task import Task, make_task

CHEAP = ["class_mean", "standardise"]


def remade(task: Task, *, source: Any = None, target: Any = None) -> Task:
    """The task after a change to a copy of the source's or the target's table."""
    frames = {"source": task.source_all.frame.copy(), "target": task.target.frame.copy()}
    for name, change in (("source", source), ("target", target)):
        if change is not None:
            change(frames[name])
    return make_task(
        task.backbone,
        task.label_space,
        Manifest(frames["source"]),
        Manifest(frames["target"]),
        task.source_features,
        task.target_features,
        task.options,
        task.context,
    )


def no_labels(frame: Any) -> None:
    frame["label"] = None


def few_labels(frame: Any) -> None:
    """Four labelled images of each class in train, none in val."""
    place = frame.groupby("label").cumcount()
    frame["label"] = frame["label"].where((place < 5) & (frame["split"] == "train"), None)


def turned(frame: Any) -> None:
    frame["label"] = frame["label"].map({"class0": "class1", "class1": "class2", "class2": "class0"})


def choose(task: Task, context: Context | None = None, **params: Any) -> Any:
    params = {"candidates": CHEAP, **params}
    return search.choose(task, Params(**params), context or task.context).record


def test_without_labels_guards_and_blends_decide(a_task: Task) -> None:
    """Every candidate has its scores, its guards and a sentence; the probe of the source is the baseline."""
    record = choose(remade(a_task, target=no_labels))
    assert [row.strategy for row in record.candidates] == ["probe", *CHEAP]
    assert all(row.mixval is not None and row.why.endswith(".") for row in record.candidates)
    assert record.selection == "guards and blended target images, no label"
    assert record.labels_from == "source"
    assert {row.outcome for row in record.candidates} <= {"kept", "chosen", "beaten", "refused"}
    assert sum(row.outcome in ("kept", "chosen") for row in record.candidates) == 1
    assert all(row.why for row in record.candidates)


def test_with_labels_they_decide_by_cross_validation(a_task: Task) -> None:
    """16 labels per class: three folds over the training images, each answered once by networks that had not seen it;
    validation images stay in their place, so that what is judged is what ships.
    """
    record = choose(a_task, candidates=["class_mean", "ridge", "lda"])
    whole = [row for row in record.candidates if row.judged == 36]
    assert record.selection == "3-fold cross-validation"
    assert "probe" in [row.strategy for row in whole]
    assert any(sentence.startswith("Its probabilities were calibrated") for sentence in record.sentences)
    dropped = [row for row in record.candidates if row.judged < 36]
    assert all("when the weaker half was dropped" in row.why for row in dropped)
    assert all(row.why for row in record.candidates)


def test_few_labels_can_refuse(a_task: Task) -> None:
    """With four per class half of them are held out, and the accuracy on these stands in the record."""
    record = choose(remade(a_task, target=few_labels))
    assert all(row.judged == 6 for row in record.candidates)
    assert "6 held-out labels" in record.selection


def test_a_source_that_misleads_is_left_out_and_named(a_task: Task) -> None:
    """Source classes that carry the target's names and mean others: nothing that uses them is tried."""
    labelled = a_task.target.labelled.frame.copy()
    turned(labelled)
    task = make_task(
        a_task.backbone,
        a_task.label_space,
        Manifest(labelled),
        a_task.target,
        a_task.target_features,
        a_task.target_features,
        a_task.options,
        a_task.context,
    )
    record = choose(task, candidates=None, budget_minutes=1e-9)
    assert "A probe of the source names" in " ".join(record.sentences)
    assert "if its classes had other names, so the source was left out." in " ".join(record.sentences)
    assert not {"standardise", "linear_ot", "mcc", "multitask"} & {row.strategy for row in record.candidates}
    assert record.chose == "probe"


def test_a_spent_budget_leaves_the_baseline(a_task: Task) -> None:
    """The baseline always runs; what was not begun is named with the reason."""
    record = choose(remade(a_task, target=no_labels), budget_minutes=1e-9)
    assert [row.outcome for row in record.candidates] == ["kept", "not tried", "not tried"]
    assert "The budget was spent before class_mean, standardise could be judged." in record.sentences


@pytest.mark.parametrize("labels", [None, few_labels, no_labels], ids=["labels", "few labels", "no label"])
def test_who_trains_longer_than_the_budget_is_stopped(
    a_task: Task, monkeypatch: pytest.MonkeyPatch, labels: Any
) -> None:
    """At the end of an epoch, with its reason; who needs no epoch is done in no time, and the baseline is never cut."""
    monkeypatch.setattr(Budget, "left_s", 1e-9)
    monkeypatch.setattr(search, "baseline_of", lambda *_: Baseline("lp_ft", "It is on trial."))
    shorter = {"lp_ft": {"epochs": 1, "patience": None}}
    record = choose(remade(a_task, target=labels), candidates=["full", "class_mean"], settings=shorter)
    by_name = {row.strategy: row for row in record.candidates}
    assert "not tried" == by_name["full"].outcome
    assert re.fullmatch(r"The budget was spent after 0 of \d+ epochs of phase 'full'\.", by_name["full"].why)
    assert by_name["class_mean"].outcome in ("kept", "chosen", "beaten", "refused")
    assert "budget" not in by_name["class_mean"].why
    assert by_name["lp_ft"].outcome in ("kept", "beaten")


def test_a_resumed_choice_stops_a_candidate_where_the_first_did(
    a_task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept of what was cut short: going on from its checkpoint, it would have the budget twice."""
    monkeypatch.setattr("pipeline.training.engine.CHECKPOINT_EVERY_S", 0.0)
    context = replace(a_task.context, scratch=tmp_path)
    task = a_task.with_context(context)
    settings = {"epochs": 3, "patience": None}
    clock = [0.0]
    monkeypatch.setattr("pipeline.training.engine.time", SimpleNamespace(time=lambda: clock[0], monotonic=lambda: 0.0))
    compare = engine._Loop._compare
    monkeypatch.setattr(engine._Loop, "_compare", lambda *args: [clock.insert(0, clock[0] + 1), compare(*args)])
    failures = []
    for _ in range(2):
        clock[:] = [0.0]
        tried = trying.attempt(task, "full", 0, settings, replace(context, deadline_s=1.5))
        failures.append(tried.failure)
    assert ["The budget was spent after 2 of 3 epochs of phase 'full'."] * 2 == failures


def test_what_cannot_be_fitted_is_refused_with_its_reason(a_task: Task) -> None:
    """A strategy whose data are missing costs its row and nothing else."""
    record = choose(remade(a_task, target=no_labels), candidates=["tradaboost"])
    assert record.candidates[1].outcome == "refused"
    assert record.candidates[1].why == "It needs labelled target images."


def test_test_labels_choose_nothing(a_task: Task, lasting_domains: Any) -> None:
    """Shuffled labels of the test split, with target labels and without: the same network and the same record."""
    frame = lasting_domains.target.frame.copy()
    test = frame["split"] == "test"
    frame.loc[test, "label"] = np.random.default_rng(0).permutation(frame.loc[test, "label"].to_numpy())
    for change in (None, no_labels):
        answers = []
        for table in (lasting_domains.target.frame, frame):
            whole = table.copy()
            if change is not None:
                whole.loc[whole["split"] != "test", "label"] = None
            task = make_task(
                a_task.backbone,
                a_task.label_space,
                lasting_domains.source,
                Manifest(whole),
                a_task.source_features,
                a_task.target_features,
                a_task.options,
                a_task.context,
            )
            answers.append(search.choose(task, Params(candidates=CHEAP), task.context))
        assert answers[0].record == answers[1].record
        states = [answer.network.state_dict() for answer in answers]
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_finished_candidates_survive_a_kill(a_task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill in the second candidate the first is not fitted again, and the record is that of an undisturbed
    run.
    """
    task = remade(a_task, target=no_labels)
    undisturbed = choose(task, replace(task.context, scratch=tmp_path / "a"))
    fitted: list[str] = []
    whole = trying._keep

    def dying(folder: Path, *rest: Any) -> None:
        fitted.append(folder.name)
        if folder.name.startswith("class_mean"):
            raise KeyboardInterrupt
        whole(folder, *rest)

    monkeypatch.setattr(trying, "_keep", dying)
    with pytest.raises(KeyboardInterrupt):
        choose(task, replace(task.context, scratch=tmp_path / "b"))
    monkeypatch.setattr(trying, "_keep", lambda folder, *rest: (fitted.append(folder.name), whole(folder, *rest)))
    fitted.clear()
    again = choose(task, replace(task.context, scratch=tmp_path / "b"))
    assert "probe-0-whole" not in fitted
    assert undisturbed == again


def test_the_order_of_labels_per_class(a_task: Task) -> None:
    """The rarest class decides whether labels can."""
    assert Situation.of(a_task).labels == "some"
    assert Situation.of(remade(a_task, target=few_labels)).labels == "few"
    assert Situation.of(remade(a_task, target=no_labels)).labels == "none"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"candidates": ["lp-ft"]}, "Did you mean 'lp_ft'"),
        ({"candidates": ["auto"]}, "unknown name 'auto'"),
        ({"settings": {"mcc": {"epoch": 3}}}, r"settings\.mcc\.epoch: Extra inputs.*'mcc' has: .*epochs"),
        ({"settings": {"mcd": {}}}, "unknown name 'mcd'; there are: adabn"),
        ({"budget_minutes": 0}, "greater than 0"),
    ],
)
def test_wrong_params(wrong: dict[str, Any], told: str) -> None:
    """A mistyped candidate or setting is found before anything runs."""
    with pytest.raises(ValidationError, match=told):
        Params(**wrong)


def test_a_budget_is_spent_by_fitting() -> None:
    """What a killed run had finished is charged as if it were fitted now."""
    budget = Budget(1)
    budget.charge(59)
    assert not budget.is_spent
    budget.charge(1)
    assert budget.is_spent


def test_a_baseline_that_cannot_be_fitted_gives_way(a_task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain one takes its place, and the record says why; without a plain one the stage ends."""
    task = remade(a_task, target=few_labels, source=no_labels)
    wild = {"settings": {"lp_ft": {"learning_rate": 1e30}}, "candidates": ["lp_ft"]}
    monkeypatch.setattr(search, "baseline_of", lambda *_: Baseline("lp_ft", "It is on trial.", otherwise="class_mean"))
    record = choose(task, **wild)
    assert [(row.strategy, row.outcome) for row in record.candidates] == [("class_mean", "kept")]
    told = " ".join(record.sentences)
    assert "The baseline 'lp_ft' could not be fitted." in told
    assert "So the baseline is class_mean." in told
    monkeypatch.setattr(search, "baseline_of", lambda *_: Baseline("lp_ft"))
    with pytest.raises(TrainingError, match="lp_ft"):
        choose(task, **wild)


def test_names_that_fit_by_chance_say_nothing_against_a_source() -> None:
    """The best of all names for a guess is better than its own, on the images that it was found on; classes that are
    really swapped are found."""
    random, labels = np.random.default_rng(0), np.repeat(np.arange(10), 5)
    condemned = 0
    for trial in range(100):
        guessed = random.integers(0, 10, len(labels))
        renamed = search._renamed(guessed, labels, 10, seed=trial)
        condemned += Paired.of(renamed == labels, guessed == labels).is_sure()
    assert condemned <= 5
    turned_answers = (labels + 1) % 10
    renamed = search._renamed(turned_answers, labels, 10, seed=0)
    assert Paired.of(renamed == labels, turned_answers == labels).is_sure()


def a_target(rows: list[tuple[str, str]], **columns: list[str]) -> Manifest:
    """Labelled images: (label, split) each."""
    names = [f"{number:03}" for number in range(len(rows))]
    labels, splits = zip(*rows, strict=True)
    frame = {"id": names, "name": names, "label": labels, "split": splits, "domain": "target", **columns}
    return Manifest.of(pd.DataFrame(frame))


def held_out_of(manifest: Manifest, seed: int) -> Manifest | None:
    task = SimpleNamespace(labels_from="target", train=manifest.split("train"), val=manifest.split("val"))
    return without_labels._half_of_the_labels(task, seed)  # type: ignore[arg-type]  # all that it looks at


def test_holding_labels_out_leaves_a_training_image_of_each_class() -> None:
    """One image of each class in train and one in val, as three labels per class are drawn: val's are held out."""
    manifest = a_target([(label, split) for label in "ab" for split in ("train", "val")])
    for seed in range(20):
        held_out = held_out_of(manifest, seed)
        assert held_out is not None
        assert {"val"} == set(held_out.frame["split"])
    assert held_out_of(a_target([("a", "train"), ("b", "train")]), 0) is None


def test_whole_groups_of_labels_are_held_out() -> None:
    """Never a part of one; and nothing where each class is one group."""
    rows = [(label, "train") for label in "aabbaabb"]
    manifest = a_target(rows, group=["1", "1", "2", "2", "3", "3", "4", "4"])
    for seed in range(10):
        held_out = held_out_of(manifest, seed)
        assert held_out is not None
        assert {2} == set(held_out.frame["group"].value_counts())
        assert {"a", "b"} == set(held_out.frame["label"])
    assert held_out_of(a_target(rows, group=["1", "1", "2", "2"] * 2), 0) is None


def test_too_few_groups_are_not_cross_validated(a_task: Task) -> None:
    """Two recording sessions make no three folds; guards and blends decide then."""
    grouped = a_task.target.frame.assign(group=np.where(np.arange(len(a_task.target)) % 2, "monday", "tuesday"))
    task = make_task(
        a_task.backbone,
        a_task.label_space,
        a_task.source_all,
        Manifest(grouped),
        a_task.source_features,
        a_task.target_features,
        a_task.options,
        a_task.context,
    )
    assert Situation.of(a_task).labels_decide
    assert not Situation.of(task).labels_decide
    assert choose(task).selection.startswith("guards")


def test_the_temperature_has_no_part_of_classes_without_a_label() -> None:
    """Their logits of −30 would ask for another one, and are as low after it."""
    random = np.random.default_rng(0)
    labels = np.tile([0, 1], 30)
    logits = random.normal(size=(60, 2)) + 2 * np.eye(2)[labels]
    unseen = np.full((60, 6), UNSEEN_BIAS)
    judged = SimpleNamespace(
        labels=labels, folds=np.array_split(np.arange(60), 3), logits={"probe": np.hstack([logits, unseen])}
    )
    found = by_labels._Judge.temperature(judged, Contender("probe"))  # type: ignore[arg-type]  # all that it looks at
    assert found == pytest.approx(fit_temperature(logits, labels))


def test_calibrating_leaves_what_is_never_answered(a_task: Task) -> None:
    """A class without an image has its bias of −30 under any temperature."""
    network = a_task.pretrained_network()
    network.set_head(torch.ones(3, 256), torch.tensor([0.5, -0.5, UNSEEN_BIAS]))
    assert search._calibrate(network, 2.0) is not None
    assert network.head.bias.tolist() == [0.25, -0.25, UNSEEN_BIAS]
    assert network.head.weight.unique().tolist() == [0.5]


def test_what_the_budget_cut_keeps_what_it_had_shown(a_task: Task) -> None:
    """Cut in a later fold it is a rival still; cut in the first it was not tried."""
    begun, fresh = Contender("lp_ft"), Contender("full")
    begun.right = np.ones(12, dtype=bool)
    for one in (begun, fresh):
        one.cut("The budget was spent after 1 of 8 epochs.")
    assert ("beaten", "not tried") == (begun.outcome, fresh.outcome)
