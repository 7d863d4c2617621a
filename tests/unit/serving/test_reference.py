"""The network behind torch's preprocessing, and what of its answers is known before it is asked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.features.engines import recipe
from pipeline.features.table import FeatureTable, TableFacts
from pipeline.serving.reference import known_answers, reference

RANDOM = np.random.default_rng(0)


def test_images_of_any_sizes_are_answered_together(tiny_net, preprocessing):
    """In their order, as each alone."""
    images = [RANDOM.integers(0, 256, (height, 30, 3), dtype=np.uint8) for height in (20, 24, 50, 20)]
    network = reference(tiny_net, preprocessing)
    np.testing.assert_allclose(network(images), [network([image])[0] for image in images], atol=1e-6)
    assert (4, 3) == network(np.stack([images[0]] * 4)).shape


FACTS = {"backbone_digest": "bars", "dtype": "float32", "recipe": recipe("torch", "cpu")}


def of_table(toy_domains, preprocessing, keeps_backbone=True, **changed):
    """What is known of the test images by a table of all, in another order, in which the third feature is largest."""
    ids = toy_domains.target.frame["id"].tolist()[::-1]
    features = np.tile(np.float32([0, 1, 4]), (len(ids), 1))
    given = {"preprocessing_digest": preprocessing.digest, **FACTS, **changed}
    facts = TableFacts(backbone="bars", count=len(ids), feature_dim=3, **given)
    own = SimpleNamespace(backbone_digest="bars", preprocessing=preprocessing)
    trained = SimpleNamespace(facts=own, keeps_backbone=keeps_backbone)
    head = nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3)), head.bias.zero_()
    rows = toy_domains.target.split("test")
    return known_answers(trained, SimpleNamespace(head=head), FeatureTable(facts, ids, features), rows)


def test_the_head_alone_answers_what_the_backbone_has_computed(toy_domains, preprocessing):
    known = of_table(toy_domains, preprocessing)
    np.testing.assert_allclose(known, [np.exp([0, 1, 4]) / np.exp([0, 1, 4]).sum()] * 12, atol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {"backbone_digest": "another"},
        {"preprocessing_digest": "another"},
        {"dtype": "float16"},
        {"recipe": recipe("onnxruntime", "cpu")},
        {"recipe": recipe("torch", "cuda")},
        {"recipe": ""},
    ],
)
def test_other_features_tell_nothing(toy_domains, preprocessing, changed):
    """Of another backbone, or rounded otherwise than torch does on this CPU."""
    assert of_table(toy_domains, preprocessing, **changed) is None


def test_a_backbone_that_has_learnt_is_asked(toy_domains, preprocessing):
    """What it started from is what the table is of, and what the network names."""
    assert of_table(toy_domains, preprocessing, keeps_backbone=False) is None
