"""Images as tensors: kept where they fit, decoded ahead where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.errors import DataError
from pipeline.data.images import ImageStore
from pipeline.data.loading import ImageBank
from pipeline.models.backbones import backbone

STEPS = [np.array([3, 0, 0]), np.array([5]), np.arange(12)]


def a_bank(toy_domains: Any, budget_mb: float) -> ImageBank:
    store = ImageStore(toy_domains.workspace, 2)
    return ImageBank(toy_domains.target, store, backbone("small_cnn").preprocessing, budget_mb=budget_mb)


@pytest.mark.parametrize("steps", [[], STEPS[:1], STEPS])
def test_batches_are_the_same_kept_or_decoded_anew(toy_domains: Any, steps: list[np.ndarray]) -> None:
    """Whatever the memory allows, each step gets its rows' images in their order."""
    kept, anew = a_bank(toy_domains, 100), a_bank(toy_domains, 0)
    expected = [kept.fetch(rows) for rows in steps]
    for bank in (kept, anew):
        found = list(bank.batches(steps))
        assert len(expected) == len(found)
        assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    assert anew.kept_mb == 0


def test_decoding_ahead_tells_of_an_image_that_has_gone(toy_domains: Any) -> None:
    """The error of the step that needs it comes through, after the steps before it."""
    bank = a_bank(toy_domains, 0)
    (toy_domains.workspace / toy_domains.target.frame["path"].iloc[5]).unlink()
    batches = bank.batches(STEPS)
    assert len(next(batches)) == 3
    with pytest.raises(DataError, match="gone since ingest"):
        next(batches)


def test_threads_that_resize_leave_the_callers_threads_alone(toy_domains: Any) -> None:
    """Each of the pool's threads takes one of torch's; sums elsewhere are still rounded as before."""
    before = torch.get_num_threads()
    list(a_bank(toy_domains, 0).batches(STEPS))
    assert before == torch.get_num_threads()
