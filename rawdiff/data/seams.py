"""Where the borders of patches lie, and how much neighbouring values jump across them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rawdiff.adapter import Adapter

SMALLEST = 1e-6


def seam_ratio(x: Tensor, adapter: Adapter) -> float | None:
    """Mean jump across borders of patches over that inside, of standardized x [n, C, …].

    For each dim, then averaged over those that have both kinds of neighbours; None where none has.
    Pairs with a missing value (NaN) are left out.
    """
    ratios = []
    for dim, border in enumerate(patch_borders(adapter, x.shape[2:])):
        border = border.to(x.device)
        difference = x.diff(dim=2 + dim).abs()
        total, count = difference.nansum((0, 1)), (~difference.isnan()).sum((0, 1))
        if count[border].any() and count[~border].any():
            across = total[border].sum() / count[border].sum()
            inside = total[~border].sum() / count[~border].sum()
            ratios.append(float(across / inside.clamp(min=SMALLEST)))
    return sum(ratios) / len(ratios) if ratios else None


def patch_borders(adapter: Adapter, sizes: Sequence[int]) -> list[Tensor]:
    """For each dim, whether a value and the next one along it lie in two patches."""
    patch = patch_numbers(adapter, sizes)
    return [
        patch.narrow(dim, 0, size - 1) != patch.narrow(dim, 1, size - 1)
        for dim, size in enumerate(patch.shape)
    ]


def patch_numbers(adapter: Adapter, sizes: Sequence[int]) -> Tensor:
    """Which patch each value of one channel lies in, by the adapter's own numbering: [*sizes]."""
    patches = adapter.patchify(torch.zeros(1, 1, *sizes))
    numbers = torch.arange(patches.shape[1], dtype=patches.dtype).view(1, -1, 1)
    return adapter.unpatchify(numbers.expand_as(patches), (1, *sizes))[0, 0]
