"""Whether members of ensembles are like the truth: ranks, intervals, CRPS. (Talts et al. 2018)"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor


def ranks(members: Tensor, truth: Tensor, ties: Tensor) -> Tensor:
    """How many of K members [B, K, M] lie under the truth [B, M]: int64 [B, M], 0 to K.

    Among equal ones it has a random place, by `ties` [B, M] in (0, 1).
    """
    under = (members < truth[:, None]).sum(1)
    equal = (members == truth[:, None]).sum(1)
    return under + ((equal + 1) * ties).long()


def interval(share: float, num_members: int) -> tuple[int, float]:
    """The central interval of K members that holds nearest to `share` of what is like them.

    From which rank on it holds the truth (k <= rank <= K - k), and which share it does hold.
    """
    k = max(round((1 - share) / 2 * (num_members + 1)), 1)
    k = min(k, num_members // 2)
    return k, 1 - 2 * k / (num_members + 1)


def crps(members: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score [B, M] of K members [B, K, M], without bias in K.

    mean |x - y| - mean |x - x'| / 2 over pairs of different members. (Ferro 2014)
    """
    num_members = members.shape[1]
    error = (members - truth[:, None]).abs().mean(1)
    weights = 2 * torch.arange(num_members, device=members.device) - num_members + 1
    pairs = (members.sort(1).values * weights.view(1, -1, 1)).sum(1)  # of |x - x'|, each once
    return error - pairs / max(num_members * (num_members - 1), 1)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Of values [n], and the standard error of their mean: 0 for a single value."""
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()), error


def evenness(rank: Tensor, num_members: int) -> tuple[list[int], float]:
    """How often ranks [n] of independent truths fall in each bin, and the p-value of chi².

    That they fall evenly, as they do where members are like the truth. Bins are as many as expect
    5 ranks or more each, K + 1 at most.
    """
    num_bins = max(min(len(rank) // 5, num_members + 1), 2)
    edges = [-(-i * (num_members + 1) // num_bins) for i in range(num_bins + 1)]
    counts = torch.histc(rank.double(), num_members + 1, -0.5, num_members + 0.5)
    found = torch.tensor([counts[a:b].sum() for a, b in pairwise(edges)])
    sizes = torch.tensor(edges).diff().double()
    expected = len(rank) * sizes / (num_members + 1)
    square = ((found - expected).square() / expected).sum()
    degrees = torch.tensor((num_bins - 1) / 2, dtype=torch.float64)
    p_value = torch.special.gammaincc(degrees, square.double() / 2)
    return [int(count) for count in found], float(p_value)
