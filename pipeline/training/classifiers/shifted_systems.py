"""Linear systems that differ by a multiple of the identity: one decomposition, then a solution for next to nothing.

A = Q T Qᵀ with T tridiagonal (Golub & Van Loan, Matrix Computations, 4th ed., §8.3.1), so that (s A + t I)⁻¹ B is
Q (s T + t I)⁻¹ Qᵀ B. Eigenvectors would serve as well and take longer to find than all the rest: of a matrix of 2,048
columns 1.7 s for 0.7, on one thread, by hand.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal, lapack, solve_banded

BLOCK = 64
"""Columns that LAPACK works on at a time."""


class ShiftedSystems:
    """(scale · A + shift · I) X = B, for one A, one B, and many scales and shifts.

    Args:
        matrix: A, symmetric and positive semidefinite but for rounding, float64 [n, n]. Where rounding has made it
            indefinite, its smallest eigenvalue is taken from the whole diagonal, so that a small shift is not undone.
        right: B, float64 [n, k].
    """

    def __init__(self, matrix: np.ndarray, right: np.ndarray) -> None:
        reduced, diagonal, beside, self._scales, _ = lapack.dsytrd(matrix.T, lower=1, lwork=BLOCK * len(matrix))
        self._reflectors = np.asfortranarray(reduced[1:, :-1])
        smallest = eigvalsh_tridiagonal(diagonal, beside, select="i", select_range=(0, 0))[0]
        self._bands = np.stack([np.r_[0, beside], diagonal - min(0, smallest), np.r_[beside, 0]])
        self._turned = self._reflected(right, "T")

    def solution(self, scale: float, shift: float) -> np.ndarray:
        """X, float64 [n, k]; ``scale`` ≥ 0 and ``shift`` > 0."""
        bands = scale * self._bands
        bands[1] += shift
        return self._reflected(solve_banded((1, 1), bands, self._turned), "N")

    def _reflected(self, columns: np.ndarray, transposed: str) -> np.ndarray:
        """Q or Qᵀ times ``columns``; Q leaves the first row as it is."""
        if len(columns) == 1:
            return columns
        work = BLOCK * (columns.shape[1] + BLOCK + 1)
        rest, _, _ = lapack.dormqr("L", transposed, self._reflectors, self._scales, columns[1:], work)
        return np.concatenate([columns[:1], rest])
