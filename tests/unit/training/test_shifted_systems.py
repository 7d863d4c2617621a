"""Systems that differ by a multiple of the identity, against solving each by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.classifiers.shifted_systems import ShiftedSystems


def a_system(size: int, columns: int, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A covariance of this rank, and right-hand sides."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(rank, size))
    return rows.T @ rows / max(1, rank), random.normal(size=(size, columns))


@given(
    size=st.integers(1, 70),
    columns=st.integers(1, 5),
    share=st.floats(0, 1),
    shift=st.floats(1e-4, 1e4),
    seed=st.integers(0, 1000),
)
def test_each_solution_is_that_of_its_own_system(
    size: int, columns: int, share: float, shift: float, seed: int
) -> None:
    """Of any size from one on, of any rank from none on, at any scale from zero on."""
    matrix, right = a_system(size, columns, round(share * size), seed)
    systems = ShiftedSystems(matrix, right)
    for scale in (1.0, 0.3, 0.0):
        expected = np.linalg.solve(scale * matrix + shift * np.eye(size), right)
        np.testing.assert_allclose(systems.solution(scale, shift), expected, rtol=1e-7, atol=1e-8 / shift)


def test_nothing_that_was_given_is_changed() -> None:
    """The caller's arrays are as they were, whichever way they lie in memory."""
    for order in "CF":
        matrix, right = (np.array(part, order=order) for part in a_system(30, 4, 20, seed=0))
        kept = matrix.copy(), right.copy()
        ShiftedSystems(matrix, right).solution(0.5, 1.0)
        np.testing.assert_array_equal(kept[0], matrix)
        np.testing.assert_array_equal(kept[1], right)


@pytest.mark.parametrize("rounding", [1e-6, 1e-3])
def test_what_rounding_has_made_negative_does_not_undo_a_shift(rounding: float) -> None:
    """An eigenvalue of minus the shift would divide by zero: none is left below zero."""
    matrix, right = a_system(20, 3, 10, seed=1)
    solution = ShiftedSystems(matrix - rounding * np.eye(20), right).solution(1.0, rounding)
    expected = np.linalg.solve(matrix + rounding * np.eye(20), right)
    np.testing.assert_allclose(solution, expected, rtol=1e-6, atol=1e-6 / rounding)
