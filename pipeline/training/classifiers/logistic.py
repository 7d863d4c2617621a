"""Multinomial logistic regression for one penalty after another on the same rows, by an inexact Newton method.

Loss, over standardised features x̂ [n, D], W [D, K], b [K], row weights s [n] and labels y [n]:
    mean_i( s_i · (log Σ_c exp z_ic − z_i,y_i) ) + (penalty / 2) · ‖W‖²,    z = x̂ W + b
Newton's equations are solved by preconditioned conjugate gradients, as far as the step deserves (Dembo, Eisenstat and
Steihaug 1982; for logistic regression Lin, Weng and Keerthi, JMLR 2008). A product with the Hessian costs what a
gradient costs, one pass over the rows, less those that are sure by now; the preconditioner makes few of them enough.
It stands on four facts:

- At first the Hessian, mean_i s_i (diag p_i − p_i p_iᵀ) ⊗ x̂_i x̂_iᵀ + penalty · I, is about A ⊗ G + penalty · I, with
  A [K, K] the mean of the first factor and G [D, D] that of the second (Martens and Grosse 2015). In the eigenvectors
  of A and G its inverse is a division. G's are found at first, and again, with the rows weighted by how uncertain they
  have become, where that is cheap beside what follows.
- Once penalties are weak, each class has uncertain rows of its own, few of them, and one G serves none. Then the
  Hessian's block of each class is factored (block Jacobi; Saad, Iterative methods for sparse linear systems, 10.5.1).
  What it leaves out, how classes hang together, costs a few products for each step, not hundreds. Blocks are kept along
  the path and factored anew once products with the Hessian have cost more than that.
- A class's bias and weights hang together, because the rows that are uncertain about the class are not centred on zero.
  About their own centre they do not: a change of variables of rank one for each class.
- What all classes have in common changes no probability, and is projected away.

A search starts from what the solutions before it foretell: the parabola through the last three in log(penalty).

Where there are fewer rows than features, W lies in the rows' span: the problem is solved there, with n unknowns per
class in place of D.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

CACHED = 2**20
"""Numbers in a block of rows: each block is read from memory once per pass."""

DOUBLE_UP_TO = 2**22
"""Features (n · D) that are kept in double precision; beyond, one copy in single precision."""

LARGEST_DECOMPOSED = 4096
"""Of an eigendecomposition, whose time grows with the cube; beyond, features count as uncorrelated, of variance 1."""

GAP = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-8}
"""How far above the minimum a loss may end, in nats, at penalties from ``SURE_PENALTY`` on.

It is estimated by the preconditioner; where blocks of classes are that, the true one was up to 60 times as far.
√(2 · gap) is about the root mean square, over the rows fitted to, of what logits are off by, each weighed by its
uncertainty. It bounds no single row: one of a rare class, or a new row, may be off by many times that.
"""

SURE_PENALTY = 1e-2
"""Below it the gap shrinks with the square root of the penalty, down to a hundredth: what the gap leaves open in
directions that the rows fitted to hardly vary in, and new rows may, grows as the penalty falls."""

NOISE = {np.dtype(np.float64): 1e-13, np.dtype(np.float32): 1e-7}
"""Relative error of a loss: a step is not refused for a rise below it."""

FORCING, LOOSEST_FORCING = 0.1, 0.5
"""The share of the gradient that conjugate gradients may leave: as much as the last step left of it, within these
(Eisenstat and Walker, SIAM J. Sci. Comput. 1996). Where steps lead little further, they deserve no more products."""

SURE = 0.01
"""Of the mean uncertainty of a row: the Hessian is summed without rows below it, a hundredth of its trace at most. They
may be all there is in some direction; a step that goes too far for that is the last without them."""

NEGLIGIBLE = 0.1
"""The same for the block of one class, which only preconditions: a tenth of it at most."""

ROUNDING = 1e-7
"""Of a block's trace, on its diagonal before it is factored; tenfold where rounding has made it more negative."""

LARGEST_BLOCKS = 2**26
"""Numbers in the blocks of all classes, 256 MiB in single precision; beyond, there are none."""

FEWEST_PRODUCTS = 20
"""With the Hessian, before the preconditioner is renewed."""

PASSES_OF_A_FIT = 10
"""Over the rows, for one penalty: measured about 5 along a path and 25 for the first one."""

MOST_STEPS, MOST_PRODUCTS, MOST_HALVINGS = 100, 250, 30


class Solution(NamedTuple):
    """Weights [D, K] on standardised features and biases [K], both float64."""

    weight: np.ndarray
    bias: np.ndarray
    gap: float
    """About how far the loss is above its minimum, in nats: half the square of Newton's decrement."""
    is_converged: bool


class _Known(NamedTuple):
    """A solution on the path, by log(penalty), and its loss without the penalty."""

    place: float
    at: np.ndarray
    loss: float


class Rows:
    """Standardised features, in the coordinates that the problem is solved in.

    Memory: one copy of the features in single precision (double where it is small), or n² numbers in double precision
    where there are fewer rows than features.
    """

    def __init__(self, features: np.ndarray, mean: np.ndarray, std: np.ndarray) -> None:
        self._features, self._mean, self._std = features, mean, std
        count, dim = features.shape
        self.spans = count < dim and count <= LARGEST_DECOMPOSED
        self.variances = np.ones(dim)
        self.vectors: np.ndarray | None = None
        if self.spans:
            self._span()
        else:
            small = count * dim <= DOUBLE_UP_TO
            self.values = np.empty((count, dim), np.float64 if small else np.float32)
            for part in self._parts(count):
                self.values[part] = self._standardised(part)
            self.decompose()

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    def blocks(self) -> list[slice]:
        """Rows to be worked on at once."""
        return self._parts(len(self.values))

    def lifted(self, weight: np.ndarray) -> np.ndarray:
        """Weights on the features, [D, K], from those in the coordinates of ``values``."""
        if not self.spans:
            return weight
        found = self._to_rows @ weight
        parts = self._parts(len(self._features))
        return sum((self._standardised(part).T @ found[part] for part in parts), np.zeros((len(self._mean), 1)))

    def lowered(self, weight: np.ndarray) -> np.ndarray:
        """The part of weights on the features, [D, K], that changes an answer, in the coordinates of ``values``."""
        if not self.spans:
            return weight
        parts = self._parts(len(self._features))
        return self._to_rows.T @ np.concatenate([self._standardised(part) @ weight for part in parts])

    def _parts(self, count: int) -> list[slice]:
        rows = int(np.clip(CACHED // self._features.shape[1], 256, 4096))
        return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]

    def _standardised(self, part: slice) -> np.ndarray:
        return (self._features[part] - self._mean) / self._std

    def decompose(self, weights: np.ndarray | None = None, less: np.ndarray | float = 0.0) -> None:
        """Variances and principal directions of the rows, each with its weight [n], ``less`` [D, D] off their mean
        product. Beyond ``LARGEST_DECOMPOSED`` nothing is done."""
        count, dim = self.values.shape
        if dim > LARGEST_DECOMPOSED:
            return
        weights = np.ones(count, self.dtype) if weights is None else weights
        products = self.products(slice(None), weights)[0] / count
        variances, vectors = np.linalg.eigh(products.astype(np.float64) - less, UPLO="U")
        self.variances, self.vectors = np.clip(variances, 0, None), vectors.astype(self.dtype)

    def products(self, kept: slice | np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Σ w_i x̂_i x̂_iᵀ, of which only the upper triangle is there, and Σ w_i x̂_i, over the ``kept`` rows, whose
        weights w are given: [D, D] in the precision of the rows, a preconditioner needs no better; [D] float64."""
        from scipy.linalg import get_blas_funcs

        dim = self.values.shape[1]
        scatter, total = np.zeros((dim, dim), self.dtype, order="F"), np.zeros(dim)  # BLAS wants columns
        syrk = get_blas_funcs("syrk", (scatter,))
        chosen, roots, size = np.arange(len(self.values))[kept], np.sqrt(weights), max(256, 4 * CACHED // dim)
        for start in range(0, len(chosen), size):
            part = slice(start, start + size)
            rows = self.values[chosen[part]]
            rows *= roots[part, None]
            scatter = syrk(1.0, rows.T, beta=1.0, c=scatter, overwrite_c=True)
            total += roots[part] @ rows
        return scatter, total

    def _span(self) -> None:
        """X̂ = U √Λ Vᵀ: rows U √Λ, whose covariance is diagonal; V = X̂ᵀ U / √Λ is not needed before the end."""
        count = len(self._features)
        products = np.zeros((count, count))
        wide = max(1, CACHED // count)
        for start in range(0, len(self._mean), wide):
            part = np.s_[start : start + wide]
            columns = (self._features[:, part] - self._mean[part]) / self._std[part]
            products += columns @ columns.T
        squares, vectors = np.linalg.eigh(products)
        kept = squares > 1e-12 * max(squares[-1], 1e-300)
        roots = np.sqrt(squares[kept])
        self.values, self._to_rows = vectors[:, kept] * roots, vectors[:, kept] / roots
        self.variances = squares[kept] / count


def tolerated(dtype: np.dtype, penalty: float) -> float:
    """How far above the minimum a loss may end, in nats."""
    return GAP[dtype] * float(np.clip(np.sqrt(penalty / SURE_PENALTY), 0.01, 1))


class Cost(NamedTuple):
    """What this method takes, in iterations of scikit-learn's L-BFGS on the same features, whole and in doubles.

    By operations, so that equal rows are always solved alike. Measured on one x86 core: rows are read from memory in
    the time of the products for eight classes, an eigendecomposition works at a quarter of the speed of a product of
    matrices. Beside these a pass takes as long as 1,500 operations per row and a million, and an iteration its share of
    the millisecond that a call takes, 4 million.
    """

    decomposition: float
    fit: float
    """Of one penalty on a path, in ``PASSES_OF_A_FIT`` passes over the rows."""

    @classmethod
    def of(cls, count: int, dim: int, classes: int) -> Cost:
        smaller = min(count, dim)
        iteration = count * dim * (8 + classes) + 4e6
        one_pass = count * smaller * (8 + classes) + count * 1500 + 1e6
        decomposition = count * dim * smaller / 2 + 2 * smaller**3
        return cls(decomposition / iteration, PASSES_OF_A_FIT * one_pass / iteration)


class Solver:
    """Solves for one penalty after another, each from what came before.

    Unknowns are kept in one array [D + 1, K], the biases in the last row. Beside the rows there is one probability for
    each row and class, and at weak penalties the blocks of the classes, K · D² numbers up to ``LARGEST_BLOCKS``.
    """

    def __init__(self, rows: Rows, labels: np.ndarray, classes: int) -> None:
        """``labels`` int64 [n] in 0 … classes − 1."""
        self._rows, self._labels, self._classes = rows, labels, classes
        self._shares = np.empty((len(labels), classes), rows.dtype)
        self._given: np.ndarray | None = None
        self._row_weights: np.ndarray | None = None
        self._known: list[_Known] = []
        self._blocks: _ClassBlocks | None = None
        self._uncertain_parts: Sequence[slice | np.ndarray] = rows.blocks()
        self._products = self._products_along = 0
        """With the Hessian, since its blocks were factored, and since the rows were decomposed."""

    def begin(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """Take these, [D, K] and [K], for the last solution, found elsewhere."""
        self._known = [_Known(0.0, np.vstack([self._rows.lowered(weight), bias]), np.nan)]

    def solve(self, penalty: float, weights: np.ndarray | None = None) -> Solution:
        """Minimise for this penalty; ``weights`` [n] of the rows, None weighs all alike. Bounded, never endless."""
        if weights is not self._given:
            self._given = weights
            self._row_weights = None if weights is None else weights.astype(self._rows.dtype)[:, None]
            self._known = [known._replace(loss=np.nan) for known in self._known[-1:]]
        at, loss, gradient = self._start(penalty)
        tolerance, noise = tolerated(self._rows.dtype, penalty), NOISE[self._rows.dtype]
        gap, is_converged, went_too_far = np.inf, False, False
        for _ in range(MOST_STEPS):
            pairs, centres, uncertainties = self._curvature(with_sure_rows=went_too_far)
            self._renew(centres, uncertainties, penalty)
            preconditioner = _Preconditioner(self._rows, self._blocks, pairs, centres, penalty)
            before, gap = gap, _dot(gradient, preconditioner(gradient)) / 2
            is_converged = gap <= tolerance
            if is_converged or not np.isfinite(gap):
                break
            went_too_far |= gap >= before
            forcing = float(np.clip(np.sqrt(gap / before), FORCING, LOOSEST_FORCING))
            step = self._newton_step(gradient, preconditioner, penalty, tolerance, forcing)
            slope, share = _dot(gradient, step), 1.0
            for _ in range(MOST_HALVINGS):
                tried = at - share * step
                new_loss, new_gradient = self._loss(tried, penalty)
                if new_loss <= loss - 1e-4 * share * slope + noise * max(1.0, abs(loss)):
                    break
                share /= 2
            else:
                break
            went_too_far |= share < 1
            at, loss, gradient = tried, new_loss, new_gradient
        unpenalised = loss - penalty / 2 * _dot(at[:-1], at[:-1])
        self._known = [*self._known, _Known(float(np.log(penalty)), at, unpenalised)][-3:]
        return Solution(self._rows.lifted(at[:-1]), at[-1], float(gap), bool(is_converged))

    def _start(self, penalty: float) -> tuple[np.ndarray, float, np.ndarray]:
        """Where the last solutions point to, where the last one lies, or zero: with the loss and its gradient there."""
        if not self._known:
            zero = np.zeros((self._rows.values.shape[1] + 1, self._classes))
            return zero, *self._loss(zero, penalty)
        last = self._known[-1]
        places = {known.place for known in self._known}
        if len(self._known) == len(places) > 1 and np.isfinite(self._known[0].loss):
            foretold = _through(self._known, float(np.log(penalty)))
            loss, gradient = self._loss(foretold, penalty)
            if loss < last.loss + penalty / 2 * _dot(last.at[:-1], last.at[:-1]):
                return foretold, loss, gradient
        return last.at, *self._loss(last.at, penalty)

    def _loss(self, at: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        """The loss and its gradient, float64; probabilities are left in ``_shares``."""
        count, dtype = len(self._labels), self._rows.dtype
        weight, bias = at[:-1].astype(dtype), at[-1].astype(dtype)
        total, gradient = 0.0, np.zeros_like(at)
        for part in self._rows.blocks():
            rows, labels, shares = self._rows.values[part], self._labels[part], self._shares[part]
            every = np.arange(len(labels))
            logits = rows @ weight
            logits += bias
            logits -= logits.max(axis=1, keepdims=True)
            np.exp(logits, out=shares)
            sums = shares.sum(axis=1, keepdims=True)
            shares /= sums
            losses = np.log(sums[:, 0], dtype=np.float64) - logits[every, labels]
            errors = shares.copy()
            errors[every, labels] -= 1
            if self._row_weights is not None:
                losses *= self._row_weights[part, 0]
                errors *= self._row_weights[part]
            total += float(losses.sum())
            gradient[:-1] += rows.T @ errors
            gradient[-1] += errors.sum(axis=0, dtype=np.float64)
        gradient /= count
        gradient[:-1] += penalty * at[:-1]
        return total / count + penalty / 2 * _dot(at[:-1], at[:-1]), gradient

    def _hessian_times(self, direction: np.ndarray, penalty: float) -> np.ndarray:
        """H · direction, at the probabilities in ``_shares``, over the rows that are uncertain."""
        found = np.zeros_like(direction)
        for part in self._uncertain_parts:
            rows, shares = self._rows.values[part], self._shares[part]
            moved = rows @ direction[:-1]
            moved += direction[-1]
            moved *= shares
            moved -= shares * moved.sum(axis=1, keepdims=True)
            if self._row_weights is not None:
                moved *= self._row_weights[part]
            found[:-1] += rows.T @ moved
            found[-1] += moved.sum(axis=0)
        found /= len(self._labels)
        found[:-1] += penalty * direction[:-1]
        return found

    def _renew(self, centres: np.ndarray, uncertainties: np.ndarray, penalty: float) -> None:
        """The preconditioner, once products with the Hessian have taken longer than that: the blocks of the classes, or
        before there are any the directions, where that is much cheaper. In operations, not in seconds."""
        if self._products < FEWEST_PRODUCTS:
            return
        (count, dim), classes = self._rows.values.shape, self._classes
        product, blocks = 6 * count * dim * (8 + classes), np.inf
        if classes * dim**2 <= LARGEST_BLOCKS:
            uncertain = sum(len(self._uncertain(known)[0]) for known in range(classes))
            blocks = uncertain * dim * (dim + 200) + classes * (dim**3 + 1e6)
        if self._products * product > 2 * blocks:
            self._factor(penalty)
        elif self._blocks is None and self._products_along >= FEWEST_PRODUCTS and dim <= LARGEST_DECOMPOSED:
            decomposition = count * dim**2 + 20 * dim**3
            if 4 * decomposition < blocks and 2 * decomposition < self._products_along * product:
                self._decompose(centres, uncertainties)

    def _uncertain(self, known: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows that are uncertain about a class, and how much: p (1 − p), times the row's weight."""
        shares = self._shares[:, known]
        uncertain = shares * (1 - shares)
        if self._row_weights is not None:
            uncertain *= self._row_weights[:, 0]
        kept = np.flatnonzero(uncertain >= NEGLIGIBLE * uncertain.mean())
        return kept, uncertain[kept]

    def _factor(self, penalty: float) -> None:
        """The blocks anew, of the rows that are uncertain about each class now."""
        self._blocks = None  # before the new ones need the memory
        self._blocks = _ClassBlocks(self._rows, map(self._uncertain, range(self._classes)), penalty)
        self._products = 0

    def _decompose(self, centres: np.ndarray, uncertainties: np.ndarray) -> None:
        """G anew, from the rows as they are uncertain now, about the centres of the classes."""
        weights = np.empty(len(self._labels), self._rows.dtype)
        for part in self._rows.blocks():
            weights[part] = 1 - np.square(self._shares[part]).sum(axis=1)
        if self._row_weights is not None:
            weights *= self._row_weights[:, 0]
        total = max(float(uncertainties.sum()), 1e-30)
        weights *= len(weights) / total
        self._rows.decompose(weights, (centres * (uncertainties / total)) @ centres.T)
        self._products_along = 0

    def _curvature(self, *, with_sure_rows: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A [K, K]; and for each class the centre of the rows by their uncertainty p (1 − p), [D, K], and its sum.

        The rows that products with the Hessian need are left in ``_uncertain_parts``.
        """
        pairs = np.zeros((self._classes, self._classes))
        centres = np.zeros((self._rows.values.shape[1], self._classes))
        masses, uncertainties = np.zeros(self._classes), np.zeros(self._classes)
        each = np.empty(len(self._labels), self._rows.dtype)
        for part in self._rows.blocks():
            shares = self._shares[part]
            weighted = shares if self._row_weights is None else shares * self._row_weights[part]
            uncertain = weighted * (1 - shares)
            each[part] = uncertain.sum(axis=1)
            masses += weighted.sum(axis=0, dtype=np.float64)
            pairs += weighted.T @ shares
            centres += self._rows.values[part].T @ uncertain
            uncertainties += uncertain.sum(axis=0, dtype=np.float64)
        self._uncertain_parts = self._rows.blocks()
        kept = np.flatnonzero(each >= SURE * each.mean())
        if not with_sure_rows and 4 * len(kept) < 3 * len(each):  # else what is saved is lost in picking them
            size = self._uncertain_parts[0].stop
            self._uncertain_parts = [kept[start : start + size] for start in range(0, len(kept), size)]
        pairs = (np.diag(masses) - pairs) / len(self._labels)
        return pairs, centres / np.maximum(uncertainties, 1e-30), uncertainties

    def _newton_step(
        self, gradient: np.ndarray, preconditioner: _Preconditioner, penalty: float, tolerance: float, forcing: float
    ) -> np.ndarray:
        """H⁻¹ · gradient by conjugate gradients, until ``forcing`` of the gradient or half of the tolerance is left."""
        residual = gradient.astype(self._rows.dtype)
        step = np.zeros_like(residual)
        direction = preconditioner(residual)
        left = _dot(residual, direction)
        enough = max(forcing**2 * left, tolerance)
        for _ in range(MOST_PRODUCTS):
            product = self._hessian_times(direction, penalty)
            self._products += 1
            self._products_along += 1
            curvature = _dot(direction, product)
            if not curvature > 0:  # only rounding makes it so
                break
            share = left / curvature
            step += share * direction
            residual -= share * product
            turned = preconditioner(residual)
            before, left = left, _dot(residual, turned)
            if not left > enough:
                break
            direction = turned + (left / before) * direction
        return step


class _ClassBlocks:
    """The Hessian's block of each class, mean_i p_i (1 − p_i) (x̂_i − c) (x̂_i − c)ᵀ + penalty · I about the centre c of
    the rows that are uncertain about it, by its Cholesky factor."""

    def __init__(self, rows: Rows, uncertain: Iterable[tuple[np.ndarray, np.ndarray]], penalty: float) -> None:
        from scipy.linalg import get_blas_funcs

        count = len(rows.values)
        self._factors, self._solve = [], get_blas_funcs("trsv", dtype=rows.dtype)
        for kept, weights in uncertain:
            block, total = rows.products(kept, weights)
            block -= np.outer(total, total / max(float(weights.sum(dtype=np.float64)), 1e-30)).astype(rows.dtype)
            block /= count
            self._factors.append(_cholesky(block, penalty))

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        """Each class's block, inverted, times its weights; [D, K]."""
        found = np.empty_like(weight)
        for known, factor in enumerate(self._factors):
            found[:, known] = self._solve(factor, self._solve(factor, weight[:, known], trans=1))
        return found


def _cholesky(block: np.ndarray, penalty: float) -> np.ndarray:
    """U of UᵀU = block + penalty · I, lifted by as little as is enough; only upper triangles are read and written."""
    from scipy.linalg import LinAlgError, cho_factor

    lift = max(penalty + ROUNDING * abs(float(block.trace())), float(np.finfo(block.dtype).tiny))
    while True:
        lifted = block.copy(order="F")
        lifted[np.diag_indices_from(lifted)] += lift
        try:
            factor: np.ndarray = cho_factor(lifted, overwrite_a=True, check_finite=False)[0]
            return factor
        except LinAlgError:
            lift *= 10


class _Preconditioner:
    """About the inverse of the Hessian, on unknowns whose sum over the classes is zero."""

    def __init__(
        self, rows: Rows, blocks: _ClassBlocks | None, pairs: np.ndarray, centres: np.ndarray, penalty: float
    ) -> None:
        dtype, classes = rows.dtype, len(pairs)
        # What is common to all classes is projected away; its eigenvalue, zero, only must not come near the others.
        values, vectors = np.linalg.eigh(pairs + np.trace(pairs) / classes)
        values = np.maximum(values, max(1e-9 * values[-1], 1e-30))
        self._blocks = blocks
        self._features, self._classes, self._centres = rows.vectors, vectors.astype(dtype), centres.astype(dtype)
        self._scale = (1 / (np.outer(rows.variances, values) + penalty)).astype(dtype)
        self._bias_scale = (1 / values).astype(dtype)

    def __call__(self, gradient: np.ndarray) -> np.ndarray:
        given = gradient.astype(self._classes.dtype)
        given -= given.mean(axis=1, keepdims=True)
        weight, bias = given[:-1] - self._centres * given[-1], given[-1] @ self._classes
        found = np.empty_like(given)
        if self._blocks is not None:
            found[:-1] = self._blocks(weight)
        else:
            found[:-1] = self._along_directions(weight @ self._classes) @ self._classes.T
        found[-1] = (bias * self._bias_scale) @ self._classes.T - (self._centres * found[:-1]).sum(axis=0)
        found -= found.mean(axis=1, keepdims=True)
        return found

    def _along_directions(self, weight: np.ndarray) -> np.ndarray:
        """Over the eigenvalues, in the eigenvectors of A and G."""
        if self._features is None:
            return weight * self._scale
        return self._features @ ((self._features.T @ weight) * self._scale)


def _through(known: list[_Known], place: float) -> np.ndarray:
    """Lagrange's polynomial through the known solutions."""
    found = np.zeros_like(known[0].at)
    for one in known:
        found += float(np.prod([(place - o.place) / (one.place - o.place) for o in known if o is not one])) * one.at
    return found


def _dot(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sum(one * other, dtype=np.float64))
