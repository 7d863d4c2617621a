"""The report on two domains: what it measures, what it says, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.evaluation.domains import FAR, NEAR, Distance, DomainReport, compare, nearness_of


def sample(seed: int, images: int = 120, mean: float = 0.0, dimensions: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, (images, dimensions)).astype(np.float32)


def report(mean: float = 0.0, **fields: object) -> DomainReport:
    return compare(sample(0), sample(1, mean=mean), seed=0, **{"draws": 30, "map_images": 0, **fields})


def mmd(value: float, null_high: float = 0.002) -> Distance:
    return Distance(
        name="MMD", value=value, low=value - 0.001, high=value + 0.001, null=0, null_low=-0.002, null_high=null_high
    )


def test_every_distance_stands_beside_its_null_level():
    """Four rows, each with intervals around both."""
    found = report(mean=0.6)
    assert ["proxy A-distance", "CORAL", "MMD", "Fréchet"] == [row.name for row in found.distances]
    for row in found.distances:
        assert row.low <= row.value <= row.high
        assert row.null_low <= row.null <= row.null_high
    assert (120, 120, 60, 60) == (
        found.source_images,
        found.target_images,
        found.source_per_draw,
        found.target_per_draw,
    )
    assert ["CORAL", "Fréchet"] == [row.name for row in found.distances if row.is_biased]


def test_one_domain_in_two_is_within_the_null_level():
    """And the sentence says so."""
    found = report()
    assert "near" == found.nearness
    assert found.sentences[0].startswith("The target cannot be told from the source: MMD ")
    assert any(sentence.startswith("No larger than between two halves of one domain: ") for sentence in found.sentences)


def test_a_large_shift_is_far_and_a_smaller_one_between():
    """Sentences name the limits, and the classifier's accuracy instead of a bare PAD."""
    found = report(mean=3.0)
    assert ["near", "middle", "far"] == [report(mean=mean).nearness for mean in (0.0, 0.6, 3.0)]
    assert "far from the source" in found.sentences[0]
    assert "near ends at 0.04, far begins at 0.2." in found.sentences[0]
    assert "in 100% of cases" in found.sentences[1]
    assert "that they differ, not how much" in found.sentences[1]


@pytest.mark.parametrize(
    ("value", "null_high", "expected"),
    [
        (NEAR - 0.01, 0.002, "near"),
        (NEAR + 0.01, 0.002, "middle"),
        (NEAR + 0.01, 0.06, "near"),
        (FAR - 0.01, 0.002, "middle"),
        (FAR + 0.01, 0.002, "far"),
    ],
)
def test_nearness_follows_the_mmd_and_its_null_level(value, null_high, expected):
    """With few images the null level is wide, and what lies within it counts as near."""
    assert expected == nearness_of(mmd(value, null_high))


def test_equal_arguments_give_equal_reports_and_the_seed_matters():
    """Map included."""
    first, again, other = (
        compare(sample(0), sample(1, mean=1), seed=seed, draws=20, map_images=30) for seed in (0, 0, 1)
    )
    assert first == again
    assert first.distances != other.distances


def test_a_report_survives_a_round_trip(tmp_path):
    """As JSON."""
    found = report(mean=1, map_images=20, source_labels=["a"] * 120, target_labels=[None] * 60 + ["b"] * 60)
    found.save(tmp_path / "domains.json")
    assert found == DomainReport.load(tmp_path / "domains.json")


def test_the_map_has_labels_where_there_are_some():
    """A label stays with its image, whichever images are drawn."""
    source, target = sample(0), sample(1)
    source[:60] += 40
    labels = ["right"] * 60 + ["left"] * 60
    drawn = compare(source, target, seed=0, draws=20, map_images=30, source_labels=labels).map
    assert drawn is not None
    assert (60, ["source"] * 30 + ["target"] * 30) == (len(drawn.x), drawn.domain)
    assert [None] * 30 == drawn.label[30:]
    places = {name: [x for x, label in zip(drawn.x, drawn.label, strict=True) if label == name] for name in set(labels)}
    assert max(places["left"]) < min(places["right"]) or max(places["right"]) < min(places["left"])


def test_class_shares_are_compared_with_chance():
    """A balanced source and a skewed target differ; two draws of the same shares do not."""
    balanced, skewed = ["a", "b"] * 60, ["a"] * 100 + ["b"] * 20
    shifted = report(source_labels=balanced, target_labels=skewed).prior_shift
    alike = report(source_labels=balanced, target_labels=balanced).prior_shift
    assert shifted is not None
    assert alike is not None
    assert shifted.total_variation == pytest.approx(1 / 3)
    assert "most of all 'a': 50.0% of the source, 83.3% of the target" in shifted.sentence
    assert "the classes occur as often in both" in alike.sentence
    assert [("a", 60, 100), ("b", 60, 20)] == [
        (row.label, row.source_images, row.target_images) for row in shifted.classes
    ]


def test_an_unlabelled_domain_has_no_class_shares():
    """It is said, not guessed."""
    prior = report(source_labels=["a"] * 120, target_labels=[None] * 120).prior_shift
    assert prior is not None
    assert [] == prior.classes
    assert "one of the domains has no labels" in prior.sentence
    assert report().prior_shift is None


def test_too_few_images_are_not_measured():
    """The counts and the need are named; nearness is unknown."""
    found = compare(sample(0), sample(1, images=19), seed=0)
    assert ([], None) == (found.distances, found.nearness)
    assert "(120 of the source and 19 of the target; 20 of each are needed)" in found.sentences[0]


def test_large_domains_are_sampled_down():
    """So that the cost is bounded; the report says how many there were."""
    found = compare(sample(0, images=300), sample(1, images=500), seed=0, draws=20, map_images=0, max_images=100)
    assert (300, 500, 50, 50) == (
        found.source_images,
        found.target_images,
        found.source_per_draw,
        found.target_per_draw,
    )


def test_the_interval_of_the_mmd_is_one():
    """Over 60 data sets with five times as many images of a wide source: it holds the true value about as often as it
    says, and it is about as wide as the values spread. (Draws as small as the target's half make it too wide.)"""
    rows = []
    for number in range(60):
        random = np.random.default_rng(number)
        source, target = random.normal(0, 1.5, (300, 3)), random.normal(0.8, 0.7, (60, 3))
        rows.append(compare(source, target, seed=number, draws=40, map_images=0).distance("MMD"))
    values = np.array([row.value for row in rows])
    true = values.mean()  # the estimate is unbiased
    assert 0.85 <= np.mean([row.low <= true <= row.high for row in rows])
    width = np.mean([row.high - row.low for row in rows]) / (2 * 1.96)
    assert 0.7 <= width / values.std() <= 1.3


def test_more_features_than_images_are_measured():
    """In the leading directions; a constant feature hurts nobody."""
    source, target = sample(0, images=30, dimensions=300), sample(1, images=30, mean=1, dimensions=300)
    source[:, 0] = target[:, 0] = 5
    found = compare(source, target, seed=0, draws=20, map_images=10)
    assert "middle" == found.nearness
    assert found.variance_kept is not None
    assert 0.9 < found.variance_kept <= 1


def test_features_that_are_all_equal_are_near_and_have_no_map():
    """There is nothing to tell apart and nothing to spread out."""
    found = compare(np.ones((40, 3)), np.ones((40, 3)), seed=0, draws=20)
    assert ("near", None) == (found.nearness, found.map)
    assert [0, 0, 0, 0] == [row.value for row in found.distances]


def test_features_that_are_not_finite_are_refused():
    """With the number of images, the place and the way out."""
    broken = sample(0)
    broken[:3, 1] = np.inf
    with pytest.raises(DataError) as caught:
        compare(sample(1), broken, seed=0)
    message = str(caught.value)
    assert "infinities or NaN in those of 3 of 120 images of the target" in message
    assert "backbone.weights" in message
