"""How representations lie in space: alignment, uniformity, spectrum, effective rank.

Functions of plain tensors; whose representations they are is diagnosis.py. Sources: Wang & Isola,
ICML 2020 (alignment, uniformity), Roy & Vetterli, EUSIPCO 2007 (effective rank).
"""

import math
from typing import Any

import torch
from torch import Tensor

DIGITS = 6
"""Significant digits that are kept: what threads and libraries add to the last bits is cut off."""


def describe(x: Tensor) -> dict[str, Any]:
    """What one set of representations looks like.

    Args:
        x: [N, D], at least two rows.

    Returns:
        `uniformity` (0 where all lie in one direction, lower where they spread), `cosine` (mean
        over pairs), `effective_rank` (between 1 and D) and `singular_values` [D], descending, of
        the centred rows divided by the root of N: their squares are the variances along the axes.
    """
    spectrum = singular_values(x)
    return {
        "uniformity": rounded(uniformity(x)),
        "cosine": rounded(mean_cosine(x)),
        "effective_rank": rounded(effective_rank(spectrum)),
        "singular_values": [rounded(value) for value in spectrum.tolist()],
    }


def alignment(x: Tensor, y: Tensor) -> float:
    """The mean squared distance of pairs of rows on the unit sphere, 0 to 4; [N, D] each."""
    return float((_on_sphere(x) - _on_sphere(y)).square().sum(1).mean())


def uniformity(x: Tensor) -> float:
    """The log of the mean of exp(-2 distance^2) over pairs of rows [N, D] on the unit sphere."""
    unit = _on_sphere(x)
    distances = torch.pdist(unit)  # [N (N - 1) / 2]
    mean = float(distances.square().mul(-2).exp().mean())
    return math.log(max(mean, math.exp(-8)))  # -8: every pair opposite


def mean_cosine(x: Tensor) -> float:
    """The mean cosine over all pairs of two different rows [N, D]."""
    unit, n = _on_sphere(x), len(x)
    return float((unit.sum(0).square().sum() - n) / (n * (n - 1)))


def singular_values(x: Tensor) -> Tensor:
    """Those of the centred rows divided by the root of N: [min(N, D)], float64, descending."""
    centred = x.double() - x.double().mean(0)
    spectrum: Tensor = torch.linalg.svdvals(centred / math.sqrt(len(x)))
    return spectrum


def effective_rank(spectrum: Tensor) -> float:
    """The exp of the entropy of singular values that sum to 1; 0 where all are 0."""
    total = float(spectrum.sum())
    if total <= 0:
        return 0.0
    shares = spectrum / total
    return math.exp(-float(torch.special.xlogy(shares, shares).sum()))


def plane(sets: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """Several sets of representations on the plane in which they, of unit length, vary most.

    Args:
        sets: [N, D] each, by name.

    Returns:
        [N, 2] each, by the same names, and the share of all variance that the plane holds.
    """
    unit = {name: _on_sphere(x) for name, x in sets.items()}
    together = torch.cat(list(unit.values()))
    mean = together.mean(0)
    _, values, axes = torch.linalg.svd(together - mean, full_matrices=False)
    # An axis has no direction of its own: its largest component is made positive.
    largest = axes[:2].abs().argmax(1, keepdim=True)
    axes = axes[:2] * axes[:2].gather(1, largest).sign()
    variance = values.square()
    share = float(variance[:2].sum() / variance.sum().clamp_min(1e-300))
    return {name: (x - mean) @ axes.T for name, x in unit.items()}, share


def rounded(value: float) -> float:
    """To `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")


def _on_sphere(x: Tensor) -> Tensor:
    """Rows of unit length, float64; a row of zeros stays one."""
    return torch.nn.functional.normalize(x.double(), dim=1, eps=1e-30)
