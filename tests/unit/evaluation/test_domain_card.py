"""The card of a target: small, the same whatever the order, and tied to the backbone."""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.domain_card import MOST_BYTES, DomainCard


def card(images: int, dimensions: int = 4, order: slice = slice(None)) -> DomainCard:
    ids = [f"{number:064x}" for number in range(images)]
    features = np.arange(images * dimensions, dtype=np.float32).reshape(images, dimensions)
    return DomainCard.of(
        ids[order], features[order], backbone="small_cnn", backbone_digest="b", preprocessing_digest="p"
    )


def test_a_card_survives_a_round_trip(tmp_path):
    """And equal cards are equal files."""
    for name in ("first", "second"):
        card(30).save(tmp_path / name)
    loaded = DomainCard.load(tmp_path / "first")
    assert ("small_cnn", "b", "p") == (loaded.backbone, loaded.backbone_digest, loaded.preprocessing_digest)
    np.testing.assert_array_equal(card(30).known, loaded.known)
    np.testing.assert_array_equal(card(30).features, loaded.features)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_the_order_of_the_images_does_not_matter():
    """A card keeps the same images of a large target however it is sorted."""
    np.testing.assert_array_equal(card(900).known, card(900, order=slice(None, None, -1)).known)
    np.testing.assert_array_equal(card(900).features, card(900, order=slice(None, None, -1)).features)


def test_a_card_stays_small():
    """500 images at most, and half a megabyte: it lies in git."""
    assert 500 == len(card(900))
    assert card(900, dimensions=2048).features.nbytes <= MOST_BYTES


def test_every_image_is_known_by_eight_bytes():
    """Also those whose features were not kept; and no other."""
    ids = [f"{number:064x}" for number in range(1000)]
    assert [True] * 900 + [False] * 100 == card(900).knows(ids).tolist()
    assert 8 * 900 == card(900).known.nbytes
    assert not DomainCard.empty().knows(ids).any()
    assert [] == card(900).knows([]).tolist()


def test_features_beyond_float16_stay_finite():
    """A card is no place for infinities."""
    made = DomainCard.of(["a"], np.array([[1e9, -1e9]]), backbone="x", backbone_digest="b", preprocessing_digest="p")
    assert np.isfinite(made.features).all()


def test_an_empty_card_is_comparable_with_nothing(tmp_path):
    """It stands for "there was no last run"."""
    DomainCard.empty().save(tmp_path / "card.npz")
    loaded = DomainCard.load(tmp_path / "card.npz")
    assert 0 == len(loaded)
    assert not loaded.is_comparable(backbone_digest="b", preprocessing_digest="p")
    assert card(3).is_comparable(backbone_digest="b", preprocessing_digest="p")
    assert not card(3).is_comparable(backbone_digest="b", preprocessing_digest="other")
