"""What every test of a promise reports beside passed or failed; ``infra/reliability.py`` reads it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tally import Tally


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """``with tally("kills"): …``; a test that asks for none counts as one case."""
    counter = Tally()
    yield counter
    request.node.user_properties += [("tried", counter.counts), ("notes", counter.notes)]
