"""Scores of an ensemble at single points, and of whole fields: pure functions of its errors.

All take errors d [M, P] = members minus truth, without missing values. Scores of the forecast
itself equal those of its errors, as each depends on differences alone; and errors lose no digits
where a field is large, such as geopotential.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def crps(d: Tensor) -> tuple[Tensor, Tensor]:
    """Continuous ranked probability score and its fair form, each [P], in the unit of d.

        CRPS = 1/M Σ_m |x_m - y| - 1/(2 M²)       Σ_mn |x_m - x_n|     (Hersbach 2000)
        fair = 1/M Σ_m |x_m - y| - 1/(2 M (M-1)) Σ_mn |x_m - x_n|     (Ferro 2014)

    The second is what an endless ensemble of the same kind would score on average, and NaN for
    one member. With sorted members Σ_mn |x_m - x_n| = 2 Σ_i (2 i - M - 1) x_(i), i = 1 … M, so
    that M log M steps are enough.
    """
    M = len(d)
    rank = torch.arange(1, M + 1, dtype=d.dtype, device=d.device)
    half = (2 * rank - M - 1) @ d.sort(dim=0).values  # Σ_mn |x_m - x_n| / 2
    distance = d.abs().mean(0)
    return distance - half / M**2, distance - half * (1 / (M * (M - 1)) if M > 1 else math.nan)


def rank_weights(d: Tensor, weights: Tensor) -> Tensor:
    """How much weight falls on each rank of the truth: [R, M + 1] of weights [R, P].

    Rank j means that j members lie below the truth. A truth that equals k members counts as
    1/(k + 1) in each of the k + 1 ranks it may have: the mean over all ways to break the ties,
    without a random number. (Hamill 2001)
    """
    lowest = (d < 0).sum(0)
    highest = (d <= 0).sum(0)
    shared = weights / (highest - lowest + 1)
    columns = [shared @ ((lowest <= j) & (j <= highest)).to(d.dtype) for j in range(len(d) + 1)]
    return torch.stack(columns, dim=-1)


def energy_score(d: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Energy score of a whole field and its fair form, each [R], for weights [R, P].

        ES = 1/M Σ_m |x_m - y| - 1/(2 M²) Σ_mn |x_m - x_n|,   |z|² = Σ_p w_p z_p² / Σ_p w_p

    the CRPS of fields (Gneiting and Raftery 2007, eq. 22); fair with M (M - 1) for M², NaN for
    one member. Distances come from one matrix product for each region. NaN without weight.
    """
    M = len(d)
    scores = []
    for w in weights:
        gram = (d * w) @ d.T / w.sum()  # [M, M]
        squared = gram.diagonal()
        apart = (squared[:, None] + squared - 2 * gram).clamp(min=0).fill_diagonal_(0)
        scores.append((squared.clamp(min=0).sqrt().mean(), apart.sqrt().sum() / 2))
    distance, half = (torch.stack(values) for values in zip(*scores, strict=True))
    return distance - half / M**2, distance - half * (1 / (M * (M - 1)) if M > 1 else math.nan)
