"""Seams: do neighbouring values differ more across the borders of patches than inside them?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rawdiff.adapter import Adapter
from rawdiff.evaluate.evaluator import Basis, Evaluator, Goal

SMALLEST = 1e-6


class Seam(Evaluator):
    """Jumps across patch borders over those inside patches; 1 means no seams.

        mean |x_i+1 - x_i| across borders / mean |x_i+1 - x_i| inside patches

    of standardized values, for each dim and then averaged over those that have both kinds of
    neighbours; there is no score where none has (patches of size 1), or at another size than the
    model's. Pairs with a missing value are left out. Differences inside count as at least 1e-6
    standard deviations.
    """

    def goal(self, key: str) -> Goal:
        return "oracle"

    def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
        if basis.adapter is None:
            return {}
        x = samples / basis.std.to(samples.device).view(1, -1, *(1,) * (samples.dim() - 2))
        patch = patch_numbers(basis.adapter, x.shape[2:]).to(x.device)
        ratios = []
        for dim, size in enumerate(patch.shape):
            difference = x.diff(dim=2 + dim).abs()
            total, count = difference.nansum((0, 1)), (~difference.isnan()).sum((0, 1))
            border = patch.narrow(dim, 0, size - 1) != patch.narrow(dim, 1, size - 1)
            if count[border].any() and count[~border].any():
                across = total[border].sum() / count[border].sum()
                inside = total[~border].sum() / count[~border].sum()
                ratios.append(float(across / inside.clamp(min=SMALLEST)))
        return {"": sum(ratios) / len(ratios)} if ratios else {}


def patch_numbers(adapter: Adapter, sizes: Sequence[int]) -> Tensor:
    """Which patch each value of one channel lies in, by the adapter's own numbering: [*sizes]."""
    patches = adapter.patchify(torch.zeros(1, 1, *sizes))
    numbers = torch.arange(patches.shape[1], dtype=patches.dtype).view(1, -1, 1)
    return adapter.unpatchify(numbers.expand_as(patches), (1, *sizes))[0, 0]
