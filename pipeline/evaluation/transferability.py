"""Scores of how well a linear head could tell the classes apart from features, without fitting one.

Both need one decomposition of the features and no training: seconds where the probe takes minutes. Neither has an
absolute meaning; they order backbones on the *same* images and labels, higher is better, and are votes beside the
cross-validated probe, which says what accuracy to expect. Shapes: ``features`` float [n, d], ``labels`` int64 [n] with
two classes or more. Everything is computed in float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Reals = NDArray[np.floating]
Integers = NDArray[np.int64]

STEPS = 100
"""Of LogME's fixed point, at most. Its authors stop after 11, which falls short of the maximum where features outnumber
images; a step costs next to nothing in this basis."""

TOLERANCE = 1e-3
"""Relative change of α/β below which the fixed point is reached."""


class Spectrum(NamedTuple):
    """F = U Σ Vᵀ without the directions in which F is zero: ``squares`` Σ² [k], and ``left`` U [n, k]."""

    squares: Floats
    left: Floats

    @classmethod
    def of(cls, features: Floats) -> Spectrum:
        """By SVD; from the eigenvectors of FᵀF where there are more rows than columns, which is far cheaper."""
        rows, columns = features.shape
        if rows <= columns:
            left, values, _ = np.linalg.svd(features, full_matrices=False)
            squares = values**2
        else:
            squares, right = np.linalg.eigh(features.T @ features)
            left = features @ right / np.sqrt(np.where(squares > 0, squares, 1.0))
        kept = squares > squares.max(initial=0.0) * max(rows, columns) * np.finfo(np.float64).eps
        return cls(squares[kept], left[:, kept])


def logme(features: Reals, labels: Integers) -> float:
    """Logarithm of Maximum Evidence per image: the mean over classes of ``max p(y | F, α, β) / n``, in nats.

    y is one class against the others (0 or 1), modelled as F w + noise with w ~ N(0, I/α) and noise ~ N(0, 1/β); w is
    integrated out, α and β are chosen to explain y best. What the integral costs a rich feature space is the penalty
    for overfitting that plain accuracy on the same images lacks.

    You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning" (ICML 2021); the fixed point
    in the SVD's basis: You et al., "Ranking and Tuning Pre-trained Models" (JMLR 2022).
    """
    spectrum = Spectrum.of(features.astype(np.float64))
    targets = _one_hot(labels)
    parts = (spectrum.left.T @ targets) ** 2  # [k, classes]
    return float(np.mean([_evidence(spectrum.squares, part, y) for part, y in zip(parts.T, targets.T, strict=True)]))


def _evidence(squares: Floats, part: Floats, target: Floats) -> float:
    """Log evidence of one target [n], over n; ``part`` [k] is x², the squares of its coordinates Uᵀy.

    With t = α/β, effective parameters γ = Σ σ²/(σ²+t), length of the mean weights m² = Σ σ²x²/(t+σ²)² and residual
    r = Σ x²/(1+σ²/t)² + (‖y‖² − Σ x²), the maximum lies at α = γ/m², β = (n−γ)/r.
    """
    images, tiny = len(target), np.finfo(np.float64).tiny
    unreached = images - len(squares)
    outside = max(float(target @ target - part.sum()), 0.0) if unreached else 0.0  # of y, whatever the weights
    t = 1.0
    for _ in range(STEPS):
        effective = float((squares / (squares + t)).sum())
        spare = unreached + float((t / (squares + t)).sum())  # n − γ, exact where they are nearly equal
        length = float((squares * part / (t + squares) ** 2).sum())
        residual = float((part / (1 + squares / t) ** 2).sum()) + outside
        alpha = effective / max(length, tiny)
        beta = spare / max(residual, tiny)
        before, t = t, min(max(alpha / max(beta, tiny), 1e-12), 1e12)
        if abs(t - before) <= TOLERANCE * before:
            break
    # ½·d·ln α − ½·Σ ln(α+βσ²) over all d directions; in those where σ is 0 the two cancel.
    fit = 0.5 * images * math.log(max(beta, tiny)) - 0.5 * float(np.log1p(squares * beta / max(alpha, tiny)).sum())
    return (fit - 0.5 * beta * residual - 0.5 * alpha * length - 0.5 * images * math.log(2 * math.pi)) / images


def h_score(features: Reals, labels: Integers) -> float:
    """Variance between classes over all variance: (1−a) · tr(C_a⁻¹ · cov(E[f | y])), between 0 and classes − 1.

    C_a = (1−a)·C + a·σ̄·I is the covariance, shrunk towards a sphere of its mean variance σ̄ = tr C / d by Ledoit and
    Wolf's share a; unshrunk, it is singular where there are fewer images than features, and noise where there are few.

    Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning" (ICIP 2019); shrunk:
    Ibrahim et al., "Newer is not always better" (ECML 2022); a: Ledoit and Wolf (J. Multivariate Analysis 2004).
    """
    centred = features.astype(np.float64)
    centred -= centred.mean(axis=0)
    spectrum = Spectrum.of(centred)
    images, dimensions = centred.shape
    variances = spectrum.squares / images
    shrinkage = _shrinkage(centred, variances)
    targets = _one_hot(labels)
    counts = targets.sum(axis=0)
    means = np.sqrt(spectrum.squares)[:, None] * (spectrum.left.T @ targets) / counts  # [k, classes], in V's basis
    between = (means**2 * counts).sum(axis=1) / images
    total = (1 - shrinkage) * variances + shrinkage * variances.sum() / dimensions
    return float((1 - shrinkage) * (between / total).sum())


def _shrinkage(centred: Floats, variances: Floats) -> float:
    """Ledoit and Wolf's share: the estimate's own variance over its distance from the sphere, at most 1."""
    images, dimensions = centred.shape
    square_norm = float((variances**2).sum())
    distance = square_norm - float(variances.sum()) ** 2 / dimensions
    noise = (float(((centred**2).sum(axis=1) ** 2).mean()) - square_norm) / images
    return min(max(noise, 0.0) / distance, 1.0) if distance > 0 else 1.0


def _one_hot(labels: Integers) -> Floats:
    """[n, classes] of the classes that occur."""
    return (labels[:, None] == np.unique(labels)).astype(np.float64)
