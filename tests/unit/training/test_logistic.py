"""The probe's own solver, held to scikit-learn's."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import TrainingError
from pipeline.training.classifiers import linear_probe, logistic
from pipeline.training.classifiers.linear_probe import Fitter, Head, Scaler, by_scikit_learn, choose_penalty, path
from pipeline.training.task import Labelled

REAL_DATA = Path(os.environ.get("GRAFTLINE_REALDATA", Path(__file__).parents[4] / "shared" / "data"))
PENALTIES = np.geomspace(1e3, 1e-4, 8).tolist()


def clouds(count: int, dim: int, classes: int, *, apart: float = 1.0, seed: int = 0) -> Labelled:
    """Overlapping classes whose features are correlated, of unequal scale and far from zero."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % classes)
    mixed = random.normal(size=(count, dim)) @ (np.eye(dim) + random.normal(0, 0.5, (dim, dim)))
    features = mixed + random.normal(0, apart, (classes, dim))[labels]
    return Labelled((100 + features * np.geomspace(0.1, 10, dim)).astype(np.float32), labels)


def probabilities(head: Head, features: np.ndarray) -> np.ndarray:
    logits = head.logits(features).astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def scikit_learns(data: Labelled, penalty: float, features: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Probabilities at scikit-learn's minimum, searched for until nothing moves; of the classes that are there."""
    from sklearn.linear_model import LogisticRegression

    scaler = Scaler.of(data.features)
    model = LogisticRegression(C=1 / (penalty * len(data)), tol=1e-8, max_iter=5_000)
    model.fit(scaler(data.features), data.labels, sample_weight=weights)
    return model.predict_proba(scaler(features))


RENEWALS = {
    "directions": lambda solver, centres, uncertainties, penalty: solver._decompose(centres, uncertainties),
    "blocks": lambda solver, centres, uncertainties, penalty: solver._factor(penalty),
}


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(8, 120),
    dim=st.integers(1, 40),
    classes=st.integers(2, 6),
    penalty=st.sampled_from([10.0, 0.3, 1e-2, 1e-3]),
    apart=st.sampled_from([0.0, 0.5, 5.0]),
    weighted=st.booleans(),
    odd=st.sampled_from(["nothing", "constant", "twice"]),
    single=st.booleans(),
    renewed=st.sampled_from(["by cost", *RENEWALS]),
    seed=st.integers(0, 999),
)
def test_probabilities_are_scikit_learns(count, dim, classes, penalty, apart, weighted, odd, single, renewed, seed):
    """Within 1e-3: more or fewer rows than features, two classes or more, row weights, features that are constant or
    there twice, classes that overlap wholly or not at all; in double and in single precision, the preconditioner kept,
    or renewed in either way at every step. So few rows leave more open than millions do, so both precisions are held to
    one gap."""
    data = clouds(count, dim, classes, apart=apart, seed=seed)
    extra = {"nothing": data.features[:, :0], "constant": np.full((count, 1), 7, np.float32), "twice": data.features}
    data = Labelled(np.concatenate([data.features, extra[odd]], axis=1), data.labels)
    weights = np.random.default_rng(seed).uniform(0.05, 2, count) if weighted else None
    new = clouds(50, dim, classes, apart=apart, seed=seed + 1).features
    new = np.concatenate([new, new if odd == "twice" else np.full((50, extra[odd].shape[1]), 7, np.float32)], axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_probe, "LARGEST_COPY", 0)
        patch.setattr(logistic, "DOUBLE_UP_TO", 0 if single else logistic.DOUBLE_UP_TO)
        patch.setitem(logistic.GAP, np.dtype(np.float32), logistic.GAP[np.dtype(np.float64)])
        if renewed != "by cost":
            patch.setattr(logistic.Solver, "_renew", RENEWALS[renewed])
        head = Fitter(data, classes).fit(penalty, weights)
    for features in (data.features, new):
        expected = scikit_learns(data, penalty, features, weights)
        np.testing.assert_allclose(probabilities(head, features)[:, np.unique(data.labels)], expected, atol=1e-3)


def test_a_large_set_in_single_precision_at_the_shipped_gap():
    """Within 2e-3 of scikit-learn's, on the rows fitted to and on new ones; two classes of five are rare."""
    from sklearn.linear_model import LogisticRegression

    random, dim = np.random.default_rng(0), 256
    mixing = random.normal(size=(dim, dim)) * np.arange(1, dim + 1) ** -0.5
    centres = random.normal(0, 0.5, (5, dim))

    def drawn(counts: list[int]) -> Labelled:
        labels = np.repeat(np.arange(5), counts)
        features = random.normal(size=(len(labels), dim)) @ mixing + centres[labels]
        return Labelled(features.astype(np.float32), labels)

    data, new = drawn([7000, 6000, 4000, 100, 60]), drawn([200] * 5)
    scaler, penalties = Scaler.of(data.features), [1e-1, 1e-2, 1e-3]
    rows = logistic.Rows(data.features, *scaler)
    assert rows.dtype == np.float32
    solver = logistic.Solver(rows, data.labels, 5)
    scaled, model = scaler(data.features), LogisticRegression(tol=1e-7, max_iter=5_000, warm_start=True)
    for penalty in penalties:
        found = solver.solve(penalty)
        head = Head(found.weight.T, found.bias)
        model.set_params(C=1 / (penalty * len(data))).fit(scaled, data.labels)
        for features in (scaled, scaler(new.features)):
            np.testing.assert_allclose(probabilities(head, features), model.predict_proba(features), atol=2e-3)


def test_the_gap_shrinks_with_weak_penalties():
    """By the square root of the penalty below 1e-2, and not without end."""
    for dtype, gap in logistic.GAP.items():
        expected = [gap, gap, gap / 10, gap / 100, gap / 100]
        found = [logistic.tolerated(dtype, penalty) for penalty in (1e5, 1e-2, 1e-4, 1e-6, 1e-8)]
        np.testing.assert_allclose(found, expected)


class Work:
    """Counts decompositions and the Newton method's passes over rows."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.decompositions = self.passes = 0
        eigh, loss = np.linalg.eigh, logistic.Solver._loss

        def counted_eigh(given, UPLO="L"):
            self.decompositions += len(given) > 20  # the smaller ones are of classes
            return eigh(given, UPLO)

        def counted_loss(solver, at, penalty):
            self.passes += 1
            return loss(solver, at, penalty)

        patch.setattr(logistic.np.linalg, "eigh", counted_eigh)
        patch.setattr(logistic.Solver, "_loss", counted_loss)


@pytest.mark.parametrize(("count", "dim"), [(600, 700), (1400, 300)])
def test_few_rows_and_penalties_are_not_decomposed(monkeypatch, count, dim):
    """One penalty costs what scikit-learn's iterations cost; so do the strongest of a path."""
    data, work = clouds(count, dim, 2, apart=0.1), Work(monkeypatch)
    head = next(path(data, [0.1], 2))
    list(path(data, [1e5, 1e4, 1e3], 2))
    assert (work.decompositions, work.passes) == (0, 0)
    expected = by_scikit_learn(data, 0.1, 2)
    assert head.weight.tobytes() == expected.weight.tobytes()


def test_a_decomposition_at_once_where_it_costs_little(monkeypatch):
    data, work = clouds(400, 30, 3), Work(monkeypatch)
    next(path(data, [0.1], 3))
    assert work.decompositions >= 1


@pytest.mark.parametrize(("count", "dim", "classes"), [(300, 400, 2), (400, 260, 3), (250, 900, 3)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_newton_method_goes_on_from_scikit_learns_iterations(monkeypatch, count, dim, classes, weighted):
    """Once they have cost as much as a decomposition, with more and with fewer rows than features: the solutions before
    and after are those of each penalty alone."""
    monkeypatch.setattr(linear_probe, "FEW_ITERATIONS", 0)
    monkeypatch.setattr(linear_probe, "TOLERANCE", 1e-6)
    data, work = clouds(count, dim, classes, apart=0.1), Work(monkeypatch)
    weights = np.random.default_rng(0).uniform(0.1, 2, count) if weighted else None
    penalties = [100.0, 10.0, 1.0, 0.1, 0.01, 1e-3]
    fitter = Fitter(data, classes)
    assert fitter._warm is not None
    for penalty in penalties:
        found = probabilities(fitter.fit(penalty, weights), data.features)
        np.testing.assert_allclose(found, scikit_learns(data, penalty, data.features, weights), atol=1e-3)
    assert fitter._warm is None
    assert work.passes > 0


@pytest.mark.parametrize("dim", [20, 90])
def test_a_search_that_begins_at_the_solution_is_at_its_end(monkeypatch, dim):
    """Also in the rows' span, where other weights give the same answers."""
    data = clouds(60, dim, 3)
    scaler = Scaler.of(data.features)
    there = logistic.Solver(logistic.Rows(data.features, *scaler), data.labels, 3).solve(0.1)
    again, work = logistic.Solver(logistic.Rows(data.features, *scaler), data.labels, 3), Work(monkeypatch)
    again.begin(there.weight, there.bias)
    np.testing.assert_allclose(again.solve(0.1).weight, there.weight, atol=1e-9)
    assert work.passes == 1


def test_too_large_a_product_is_not_even_begun(monkeypatch):
    """Features beyond the largest decomposition count as uncorrelated throughout."""
    monkeypatch.setattr(logistic, "LARGEST_DECOMPOSED", 25)
    monkeypatch.setattr(logistic, "FEWEST_PRODUCTS", 0)
    data, work = clouds(2000, 30, 3), Work(monkeypatch)
    monkeypatch.setattr(logistic.Solver, "_decompose", None)
    list(path(data, PENALTIES, 3))
    assert work.decompositions == 0


def test_one_class_is_told():
    data = clouds(20, 4, 2)
    with pytest.raises(TrainingError, match=r"^A probe tells classes apart, .* fitted to are all of one class\.$"):
        Fitter(Labelled(data.features, np.ones(20, int)), 2)


@pytest.mark.parametrize("dim", [4, 300])
def test_rows_without_weight_are_told(recwarn, dim):
    """Whichever solver would begin."""
    data = clouds(400, dim, 2)
    with pytest.raises(TrainingError, match=r"^All images weigh nothing, so no probe can be fitted to them\.$"):
        Fitter(data, 2).fit(0.1, np.zeros(400))
    assert not recwarn.list


def test_a_class_without_weight_is_solved(recwarn):
    """Its curvature is zero, or nearly; no number overflows."""
    data = clouds(90, 4, 3)
    solver = logistic.Solver(logistic.Rows(data.features, *Scaler.of(data.features)), data.labels, 3)
    assert np.isfinite(solver.solve(1e-3, (data.labels != 2) * 1.5).weight).all()
    assert not recwarn.list


@settings(max_examples=10, deadline=None)
@given(count=st.sampled_from([60, 150]), dim=st.sampled_from([10, 100]), classes=st.sampled_from([2, 4]))
def test_the_same_penalty_is_chosen_with_the_same_accuracy(count, dim, classes):
    """As by scikit-learn's solver over the whole path."""
    data = clouds(count + 60, dim, classes)
    fit = Labelled(data.features[:count], data.labels[:count])
    folds = [(fit, Labelled(data.features[count:], data.labels[count:]))]
    ours = choose_penalty(folds, PENALTIES, classes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fitter, "fit", lambda self, penalty, weights: by_scikit_learn(fit, penalty, classes, weights))
        assert ours == choose_penalty(folds, PENALTIES, classes)


def test_a_solution_does_not_depend_on_the_path_to_it():
    """What the last solutions foretell is only where the search begins."""
    data = clouds(200, 12, 3)
    along = list(path(data, [10.0, 1.0, 0.1, 0.01, 0.001], 3))[-1]
    alone = next(path(data, [0.001], 3))
    np.testing.assert_allclose(probabilities(along, data.features), probabilities(alone, data.features), atol=1e-4)


def test_it_ends_at_most_so_far_above_the_minimum_as_it_says():
    """The gap is an estimate: the loss itself is never further from the minimum than four times the bound."""
    data = clouds(300, 20, 5)
    rows = Scaler.of(data.features)(data.features)
    solver = logistic.Solver(logistic.Rows(rows, np.zeros(20), np.ones(20)), data.labels, 5)
    bound = logistic.GAP[np.dtype(np.float64)]
    for penalty in (1.0, 1e-2, 1e-4):
        found = solver.solve(penalty)
        loose = solver._loss(np.vstack([found.weight, found.bias]), penalty)[0]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logistic, "GAP", {np.dtype(np.float64): 1e-16})
            exact = solver.solve(penalty)
        tight = solver._loss(np.vstack([exact.weight, exact.bias]), penalty)[0]
        assert found.is_converged
        assert loose - tight <= 4 * bound


@pytest.mark.parametrize("dim", [30, 90])
def test_fewer_rows_than_features_are_solved_in_their_span(monkeypatch, dim):
    """Sixty unknowns per class instead of ninety, and the same head as in all coordinates without a decomposition."""
    data = clouds(60, dim, 3)
    assert (dim > 60) == logistic.Rows(data.features, *Scaler.of(data.features)).spans
    spanned = next(path(data, [1e-2], 3))
    monkeypatch.setattr(logistic, "LARGEST_DECOMPOSED", 0)
    assert not logistic.Rows(data.features, *Scaler.of(data.features)).spans
    plain = next(path(data, [1e-2], 3))
    np.testing.assert_allclose(spanned.weight, plain.weight, atol=1e-4)
    np.testing.assert_allclose(probabilities(spanned, data.features), probabilities(plain, data.features), atol=1e-4)


@pytest.mark.parametrize("dim", [5, 400])
def test_rows_may_be_cut_anywhere(monkeypatch, dim):
    """Blocks only decide what is in the cache."""
    data = clouds(300, dim, 3)
    whole = next(path(data, [0.1], 3))
    monkeypatch.setattr(logistic, "CACHED", 1)  # blocks of 256 rows, columns one by one
    parts = next(path(data, [0.1], 3))
    np.testing.assert_allclose(whole.weight, parts.weight, atol=1e-5)


def test_the_decomposition_saves_most_products_with_the_hessian(monkeypatch):
    """Which is all it is for: the same path, with correlated features taken as uncorrelated, asks for twice as many."""
    monkeypatch.setattr(logistic, "LARGEST_BLOCKS", 0)
    data, products = clouds(400, 60, 4), Products(monkeypatch)
    with_it = products.of(lambda: list(path(data, PENALTIES, 4)))
    monkeypatch.setattr(logistic, "LARGEST_DECOMPOSED", 0)
    assert 2 * with_it < products.of(lambda: list(path(data, PENALTIES, 4)))


def test_the_blocks_of_classes_save_most_products_at_weak_penalties(monkeypatch):
    """Where few rows are uncertain, and those of one class are not those of another; and the answers are the same."""
    data, products, weak = confused(), Products(monkeypatch), np.geomspace(1e-3, 1e-5, 5).tolist()
    heads: list[list[Head]] = [[], []]
    with_them = products.of(lambda: heads[0].extend(path(data, weak, 6)))
    monkeypatch.setattr(logistic, "LARGEST_BLOCKS", 0)
    without = products.of(lambda: heads[1].extend(path(data, weak, 6)))
    assert 2 * with_them < without
    for one, other in zip(*heads, strict=True):
        both = [probabilities(head, data.features) for head in (one, other)]
        np.testing.assert_allclose(*both, atol=1e-3)


def test_rows_that_are_sure_have_no_part_in_the_hessian(monkeypatch):
    """But in the loss: at a weak penalty most rows are sure, and probabilities are still scikit-learn's."""
    data, kept = confused(), []
    plain = logistic.Solver._hessian_times

    def noted(self, direction, penalty):
        kept.append(sum(len(self._labels[part]) for part in self._uncertain_parts))
        return plain(self, direction, penalty)

    monkeypatch.setattr(logistic.Solver, "_hessian_times", noted)
    *_, head = path(data, [1e-2, 1e-3, 1e-4], 6)
    assert kept[0] == len(data)
    assert kept[-1] < 0.75 * len(data)
    found = probabilities(head, data.features)
    np.testing.assert_allclose(found, scikit_learns(data, 1e-4, data.features, None), atol=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sure_rows_count_where_no_others_vary(monkeypatch, seed):
    """Two classes that nothing tells apart are all the uncertainty there is, and vary along a few features only: the
    curvature along the others is that of the sure rows, without which no step has the right length."""
    random, dim = np.random.default_rng(seed), 64
    labels = random.permutation(np.arange(4000) % 8)
    centres, spread = random.normal(0, 4, (8, dim)), np.ones((8, dim))
    centres[1], spread[:2, 8:] = centres[0], 1e-3
    features = (centres[labels] + random.normal(size=(4000, dim)) * spread[labels]).astype(np.float32)
    monkeypatch.setattr(logistic, "DOUBLE_UP_TO", 0)
    solver = logistic.Solver(logistic.Rows(features, features.mean(0), features.std(0)), labels, 8)
    passes, plain = [], logistic.Solver._loss
    monkeypatch.setattr(logistic.Solver, "_loss", lambda *given: (passes.append(1), plain(*given))[1])
    found = [solver.solve(float(penalty)) for penalty in np.geomspace(1e-1, 1e-6, 11)]
    assert all(solution.is_converged for solution in found)
    assert len(passes) < 20 * len(found)


def test_a_block_of_nothing_is_lifted_too():
    """A class without an uncertain row, at no penalty: nothing to divide by, and the search for a lift ends."""
    factor = logistic._cholesky(np.zeros((3, 3), np.float32), 0.0)
    assert np.isfinite(np.triu(factor)).all()


@pytest.mark.parametrize("below", [0.0, 1e-4])
def test_a_block_that_rounding_made_negative_is_lifted(below):
    """By little where it is singular, by as much as it needs where an eigenvalue is below zero."""
    rows = np.random.default_rng(0).normal(size=(3, 60)).astype(np.float32)
    block = rows.T @ rows - np.float32(below * 60) * np.eye(60, dtype=np.float32)
    factor = np.triu(logistic._cholesky(block, 0.0))
    np.testing.assert_allclose(factor.T @ factor, block, atol=1e-2 * block.trace())


class Products:
    """Counts the products with the Hessian."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._count, plain = 0, logistic.Solver._hessian_times

        def counted(solver, direction, penalty):
            self._count += 1
            return plain(solver, direction, penalty)

        patch.setattr(logistic.Solver, "_hessian_times", counted)

    def of(self, work: Callable[[], object]) -> int:
        before = self._count
        work()
        return self._count - before


def confused() -> Labelled:
    """Six classes in pairs: each is mistaken for the one beside it, in directions of its own, for no other."""
    random, dim = np.random.default_rng(0), 48
    labels = random.permutation(np.arange(4000) % 6)
    centres = np.repeat(random.normal(0, 2, (3, dim)), 2, axis=0)
    spread = np.exp(random.normal(0, 1, (3, dim)))
    near = random.normal(0, 0.4, (6, dim)) * np.repeat(spread, 2, axis=0)
    features = (centres + near)[labels] + random.normal(size=(4000, dim)) * spread[labels // 2]
    return Labelled(features.astype(np.float32), labels)


def test_a_row_of_weight_two_counts_as_two_rows():
    """And one of weight zero as none."""
    data = clouds(90, 6, 3)
    times = np.random.default_rng(0).integers(0, 4, 90)
    plain = Labelled(np.repeat(data.features, times, axis=0), np.repeat(data.labels, times))
    scaler = Scaler.of(data.features)
    repeated = logistic.Solver(logistic.Rows(plain.features, *scaler), plain.labels, 3).solve(0.1)
    weights = times * len(data) / times.sum()
    weighted = logistic.Solver(logistic.Rows(data.features, *scaler), data.labels, 3).solve(0.1, weights)
    np.testing.assert_allclose(repeated.weight, weighted.weight, atol=1e-4)
    np.testing.assert_allclose(repeated.bias, weighted.bias, atol=1e-4)


def test_other_weights_on_the_same_rows_begin_from_the_last_solution():
    """As boosting asks for: each fit is that of its own weights."""
    data, random = clouds(120, 6, 3), np.random.default_rng(0)
    fitter = Fitter(data, 3)
    for weights in [None, random.uniform(0, 2, 120), random.uniform(0, 2, 120), None]:
        expected = scikit_learns(data, 0.05, data.features, weights)
        found = probabilities(fitter.fit(0.05, weights), data.features)
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("single", [False, True])
def test_classes_far_apart_with_hardly_a_penalty_come_to_an_end(monkeypatch, capsys, single):
    """Whose best weights are large: without scikit-learn's help, from zero and along the path."""
    if single:
        monkeypatch.setattr(logistic, "DOUBLE_UP_TO", 0)
    data = clouds(200, 10, 4, apart=30.0)
    for penalties in ([1e-6], np.geomspace(1e5, 1e-6, 45).tolist()):
        *_, head = path(data, penalties, 4)
        assert (head.logits(data.features).argmax(axis=1) == data.labels).all()
    assert "" == capsys.readouterr().out


def test_equal_rows_give_equal_bits():
    """Twice the same path, byte for byte, on one thread as the callers set it."""
    from threadpoolctl import threadpool_limits

    data = clouds(3000, 40, 7)
    with threadpool_limits(1):
        first, second = (list(path(data, PENALTIES, 7)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.weight.tobytes() == other.weight.tobytes()
        assert one.bias.tobytes() == other.bias.tobytes()


def test_scikit_learn_takes_over_where_the_solver_does_not_end(monkeypatch, capsys):
    """Nothing half-solved is returned, and it is said."""
    data, weights = clouds(80, 6, 3), np.random.default_rng(0).uniform(0, 2, 80)
    monkeypatch.setattr(logistic, "MOST_STEPS", 1)
    head = Fitter(data, 3).fit(1e-3, weights)
    expected = by_scikit_learn(data, 1e-3, 3, weights)
    assert expected.weight.tobytes() == head.weight.tobytes()
    told = capsys.readouterr().out
    assert "probe · penalty 0.001 · stopped" in told
    assert "above the least loss; scikit-learn's solver takes over" in told


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_no_number_is_told(value):
    data = clouds(20, 4, 2)
    data.features[3, 1] = value
    with pytest.raises(TrainingError, match=r"not a number or endless.*no probe can be fitted"):
        Fitter(data, 2)


def test_features_that_never_vary_leave_the_shares_of_the_classes():
    """With fewer rows than features too."""
    labels = np.array([0, 0, 0, 1, 2, 2])
    for dim in (2, 9):
        head = next(path(Labelled(np.full((6, dim), 3, np.float32), labels), [0.1], 3))
        found = probabilities(head, np.full((1, dim), 3, np.float32))
        np.testing.assert_allclose([[3 / 6, 1 / 6, 2 / 6]], found, atol=1e-4)


@pytest.mark.realdata
@pytest.mark.skipif(not (REAL_DATA / "weights").is_dir(), reason=f"no real weights in {REAL_DATA}")
@pytest.mark.parametrize("single", [False, True])
def test_on_features_of_real_photos(monkeypatch, single):
    """ResNet-18's features of CIFAR-10 photos at their own size: scikit-learn's probabilities along the path."""
    if single:
        monkeypatch.setattr(logistic, "DOUBLE_UP_TO", 0)
    data = _photos()
    heads = path(data, [1.0, 0.1, 0.01, 0.001], 10)
    for penalty, head in zip([1.0, 0.1, 0.01, 0.001], heads, strict=True):
        expected = scikit_learns(data, penalty, data.features, None)
        np.testing.assert_allclose(probabilities(head, data.features), expected, atol=1e-3)


def _photos() -> Labelled:
    """512 features of each of 600 photos."""
    import torch
    from PIL import Image

    from pipeline.data.transforms import preprocess
    from pipeline.models.backbones import backbone
    from pipeline.models.checkpoints import from_file

    own = backbone("resnet18").preprocessing.model_copy(update={"size_px": 32, "resize_px": 32})
    file = REAL_DATA / "weights" / "resnet18.safetensors"
    network = from_file("resnet18", file, own, origin="file", where="here").build()
    pixels, names = [], []
    with tarfile.open(REAL_DATA / "cifar10.tar") as tar:
        members = sorted((one for one in tar.getmembers() if "/train/" in f"/{one.name}"), key=lambda one: one.name)
        for member in [one for one in members if one.isfile()][::8][:600]:
            content = tar.extractfile(member)
            assert content is not None
            pixels.append(np.asarray(Image.open(content).convert("RGB")))
            names.append(Path(member.name).parts[-2])
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        features = network(preprocess(images, own)).numpy()
    return Labelled(features, np.unique(names, return_inverse=True)[1])
