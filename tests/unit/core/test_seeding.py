"""Seeds and streams."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import seeding


@given(st.integers(0, 2**32), st.text(), st.text())
def test_streams_depend_on_their_names_alone(seed, first, second):
    """Equal names give equal seeds, other names others, and all fit into 63 bits."""
    assert seeding.derive(seed, first) == seeding.derive(seed, first)
    assert (seeding.derive(seed, first) == seeding.derive(seed, second)) == (first == second)
    assert 0 <= seeding.derive(seed, first) < 2**63
    assert 0 <= seeding.unit(seed, first) < 1
