"""Images as tensors: kept where they fit, decoded ahead where they do not."""

from __future__ import annotations

import subprocess
import sys
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


def test_processes_divide_the_memory(toy_domains: Any) -> None:
    """What fits for one process is decoded anew by each of two, which keep no more together; images are the same."""
    alone, one_of_two = a_bank(toy_domains, 0.2), a_bank(toy_domains, 0.2)
    one_of_two.share_memory(2)
    assert torch.equal(alone.fetch(STEPS[2]), one_of_two.fetch(STEPS[2]))
    assert 0.1 < alone.kept_mb < 0.2
    assert one_of_two.kept_mb == 0


def test_decoding_ahead_tells_of_an_image_that_has_gone(toy_domains: Any) -> None:
    """The error of the step that needs it comes through, after the steps before it."""
    bank = a_bank(toy_domains, 0)
    (toy_domains.workspace / toy_domains.target.frame["path"].iloc[5]).unlink()
    batches = bank.batches(STEPS)
    assert len(next(batches)) == 3
    with pytest.raises(DataError, match="gone since ingest"):
        next(batches)


ASKED_LATER = """
import threading
import torch
from pipeline.core.ahead import mapped_ahead
torch.set_num_threads(2)
list(mapped_ahead(lambda number: torch.ones(9).sum() * number, range(9), 3))
found = [torch.get_num_threads()]
later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
later.start()
later.join()
print(*found)
"""


def test_threads_that_decode_leave_the_other_threads_theirs() -> None:
    """Each of a pool's threads takes one of torch's; the caller's and any later one's are as many as was asked for,
    though torch was not asked in between. Sums elsewhere are then rounded as before.
    """
    done = subprocess.run([sys.executable, "-c", ASKED_LATER], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "2"]
