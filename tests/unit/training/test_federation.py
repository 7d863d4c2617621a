"""Sites, what they send, and what they arrive at together."""

from __future__ import annotations

import numpy as np
import pytest
from feature_tasks import FEATURES, blobs, feature_task
from pydantic import ValidationError

from pipeline.core.errors import DataError
from pipeline.training.classifiers.closed_form import Sums
from pipeline.training.classifiers.federation import Statistics, fedavg_path, sites_of, told, without_rare
from pipeline.training.classifiers.linear_probe import cross_entropy, path
from pipeline.training.strategies import federated, lda, ridge
from pipeline.training.task import Labelled


def of_sites(count: int = 90, **options):
    """A target from three hospitals."""
    hospitals = [("north", "south", "east")[number * 7 // 5 % 3] for number in range(count)]
    return feature_task(None, blobs(count, spread=2.0), hospital=hospitals, **options)


def fit(module, task, **params):
    return module.fit(task, module.Params(**params), task.context)


@pytest.mark.parametrize(("head", "central"), [("ridge", ridge), ("lda", lda)])
def test_sites_arrive_at_the_central_solution(head, central):
    """Three sites that send sums: the same setting is chosen, and the head is the central one to 1e-6."""
    task = of_sites()
    apart, together = fit(federated, task, head=head, site="hospital"), fit(central, task)
    setting = "penalty" if head == "ridge" else "shrinkage"
    assert together.record.chosen[setting] == apart.record.chosen[setting]
    np.testing.assert_allclose(
        together.network.head.weight.detach(), apart.network.head.weight.detach(), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(
        together.network.head.bias.detach(), apart.network.head.bias.detach(), rtol=1e-6, atol=1e-6
    )
    assert "3 site(s) of this workspace took part with 90 images; no image left its site." in apart.record.sentences


def test_a_missing_column_lists_those_there_are():
    task = of_sites()
    with pytest.raises(DataError) as error:
        fit(federated, task, site="clinic")
    assert 2 == error.value.exit_code
    assert "the manifest's column 'clinic'; found the columns hospital." in str(error.value)
    assert "site: null" in str(error.value)


def test_a_manifest_without_columns_says_so():
    with pytest.raises(DataError, match="found no column of your own"):
        sites_of(feature_task(None, blobs(60)), "clinic")


def test_an_image_without_a_site_is_refused():
    task = feature_task(None, blobs(60), hospital=["north", None] * 30)
    with pytest.raises(DataError, match="30 labelled images without a value in 'hospital'"):
        sites_of(task, "hospital")


def test_a_rare_class_stays_at_its_site():
    """Of a class with fewer images than the minimum nothing is sent."""
    data = Labelled(np.ones((7, 2), np.float32), np.array([0, 0, 0, 0, 1, 1, 2]))
    assert [4, 2, 0] == np.bincount(without_rare(data, 3, 2).labels, minlength=3).tolist()
    assert [4, 2, 0] == Sums.of(without_rare(data, 3, 2), 3).counts.tolist()


def test_sites_too_small_for_the_minimum_are_refused():
    with pytest.raises(DataError, match="a site with 1,000 images, for at least two classes") as error:
        fit(federated, of_sites(), site="hospital", min_count=1000)
    assert "train.strategy.min_count" in str(error.value)
    assert "Lower it" in str(error.value)


@pytest.mark.parametrize(("local_steps", "gap"), [(1, 1e-3), (10, 0.1)])
def test_fedavg_nears_the_probes_minimum(local_steps, gap):
    """With one local step it is gradient descent on all images; more save rounds and cost some accuracy, as each site
    goes its own way in between.
    """
    data, penalty = blobs(120, spread=2.0), 0.1
    parts = [Labelled(data.features[start::3], data.labels[start::3]) for start in (0, 1, 2)]
    sums = Sums.of(data, 3)
    averaged = next(fedavg_path(parts, sums, [penalty], rounds=400 // local_steps, local_steps=local_steps))
    best = next(path(data, [penalty], 3))

    def loss(head) -> float:
        weight = head.weight * sums.std
        return cross_entropy(head.logits(data.features), data.labels) + penalty / 2 * float((weight**2).sum())

    assert loss(best) == pytest.approx(loss(averaged), rel=gap)


def test_fedavg_is_a_strategy_too():
    record = fit(federated, of_sites(), head="fedavg", site="hospital", rounds=5).record
    assert {"penalty", "temperature"} == set(record.chosen)
    assert record.val_accuracy > 0.6


def test_fedavg_cannot_use_statistics():
    with pytest.raises(ValidationError, match="statistics are for ridge and lda"):
        federated.Params(head="fedavg", statistics=["site.npz"])


# -- contributions -----------------------------------------------------------------------------------------------------


def split_in_two(tmp_path):
    """One task over all images; two over its parts, whose standardised sums are merged."""
    data = blobs(120, spread=2.0)
    halves = [Labelled(data.features[rows], data.labels[rows]) for rows in (slice(0, 60), slice(60, 120))]
    return data, [feature_task(None, half, workspace=tmp_path) for half in halves]


def test_a_contribution_counts_as_its_images_would(tmp_path):
    """This site's images and the other's file give the ridge of all images, at the penalty that was chosen."""
    from pipeline.training.classifiers.closed_form import ridge_path

    data, (here, there) = split_in_two(tmp_path)
    Statistics.of(there, 1).save(tmp_path / "there.npz")
    fitted = fit(federated, here, statistics=["there.npz"])
    features = np.zeros((120, FEATURES), np.float32)
    features[:, :8] = data.features
    chosen = fitted.record.chosen
    expected = next(ridge_path(Sums.of(Labelled(features, data.labels), 3), [chosen["penalty"]]))
    np.testing.assert_allclose(
        expected.tempered(chosen["temperature"]).weight, fitted.network.head.weight.detach(), rtol=1e-5, atol=1e-6
    )
    assert "and 1 other(s) sent sums over 60 images" in fitted.record.sentences[-1]


@pytest.mark.parametrize("in_double", [2**24, 0])
@pytest.mark.parametrize(("files", "whose"), [(["own"], "this workspace"), (["there", "copy"], r"there\.npz")])
def test_images_are_counted_once(tmp_path, monkeypatch, files, whose, in_double):
    """This workspace's own contribution holds its held-out images, a copy counts twice: both are refused, however
    many features there are, and where a small class that stays out moves the parts in which they are summed."""
    monkeypatch.setattr("pipeline.training.classifiers.closed_form.IN_DOUBLE", in_double)
    monkeypatch.setattr("pipeline.training.classifiers.closed_form.ROWS_AT_ONCE", 7)
    _, (here, there) = split_in_two(tmp_path)
    for name, task in {"own": here, "there": there, "copy": there}.items():
        Statistics.of(task, 5).save(tmp_path / f"{name}.npz")
    with pytest.raises(DataError, match=f"a class whose sums are those of {whose}"):
        fit(federated, here, statistics=[f"{name}.npz" for name in files])


def test_files_of_one_name_in_two_folders_both_count(tmp_path):
    _, (here, there) = split_in_two(tmp_path)
    third = feature_task(None, blobs(45, seed=9), workspace=tmp_path)
    for name, task in {"north": there, "south": third}.items():
        Statistics.of(task, 1).save(tmp_path / name / "site.npz")
    record = fit(federated, here, statistics=["north/site.npz", "south/site.npz"]).record
    assert "and 2 other(s) sent sums over 105 images" in record.sentences[-1]


def test_a_contribution_survives_the_file_and_equal_ones_make_equal_bytes(tmp_path):
    _, (here, _) = split_in_two(tmp_path)
    sent = Statistics.of(here, 1)
    for name in ("first.npz", "second.npz"):
        sent.save(tmp_path / name)
    read = Statistics.load(tmp_path / "first.npz")
    np.testing.assert_array_equal(sent.sums.products, read.sums.products)
    assert (sent.classes, sent.backbone_digest) == (read.classes, read.backbone_digest)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    assert f"sums over 60 images of 3 classes × {FEATURES} features" == sent.told


def test_nothing_but_sums_leaves(tmp_path):
    """No array has a row per image."""
    _, (here, _) = split_in_two(tmp_path)
    Statistics.of(here, 1).save(tmp_path / "site.npz")
    with np.load(tmp_path / "site.npz") as held:
        assert {"counts", "totals", "products", "classes", "digests"} == set(held)
        assert all(60 not in held[name].shape for name in held)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"classes": ["a", "b", "x"]}, "the classes a, b, x"),
        ({"backbone_digest": "f" * 64}, "ffffffffffff…"),
        ({"preprocessing_digest": "e" * 64}, "eeeeeeeeeeee…"),
    ],
)
def test_sums_over_other_features_or_classes_are_refused(tmp_path, change, found):
    from dataclasses import replace

    _, (here, there) = split_in_two(tmp_path)
    replace(Statistics.of(there, 1), **change).save(tmp_path / "there.npz")
    with pytest.raises(DataError) as error:
        fit(federated, here, statistics=["there.npz"])
    assert f"found {found}" in str(error.value)
    assert "graftline contribute" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_contribution_is_refused(tmp_path, content):
    """Missing, empty or something else: a message and no traceback of NumPy's."""
    if content is not None:
        (tmp_path / "site.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"Expected a contribution of another site in site\.npz"):
        Statistics.load(tmp_path / "site.npz")


def test_sums_of_wrong_shapes_are_refused(tmp_path):
    _, (here, _) = split_in_two(tmp_path)
    sent = Statistics.of(here, 1)
    bent = Statistics(Sums(sent.sums.counts, sent.sums.totals[:, :5], sent.sums.products), sent.classes, "b", "p")
    bent.save(tmp_path / "site.npz")
    with pytest.raises(DataError, match="finite sums over one set of classes and features"):
        Statistics.load(tmp_path / "site.npz")


def test_images_that_stayed_out_are_not_counted():
    """Of a class with fewer than the minimum at its site; a site with nothing else took no part."""
    parts = [
        Labelled(np.ones((count, 2), np.float32), np.array(labels))
        for count, labels in ((5, [0, 0, 0, 1, 1]), (1, [1]))
    ]
    assert "1 site(s) of this workspace took part with 5 images; no image left its site." == told(parts, [], 2, 2)
    other = Sums.of(parts[0], 2)
    assert told(parts, [other], 2, 1) == (
        "2 site(s) of this workspace took part with 6 images and 1 other(s) sent sums over 5 images; "
        "no image left its site."
    )
