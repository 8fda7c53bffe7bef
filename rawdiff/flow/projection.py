"""Guidance across a prediction of x: along it colours saturate, and little else changes.

Sadat et al. 2024 (arXiv 2410.02416, eq. 5 to 7), without its bound and momentum.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny


def projected(d: Tensor, x: Tensor, known: Tensor | None, *, parallel: float) -> Tensor:
    """d [B, N, P] with its part along x [B, N, P] multiplied by `parallel`.

    Of each sample the values that are `known` (bool [B, N, P]; None: all) decide; others become 0.
    """
    if known is not None:
        d, x = d.where(known, 0), x.where(known, 0)
    along = (d * x).sum((1, 2), keepdim=True) / x.square().sum((1, 2), keepdim=True).clamp(min=TINY)
    return d - (1 - parallel) * along * x
