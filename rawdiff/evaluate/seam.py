"""Seams: do neighbouring values differ more across the borders of patches than inside them?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rawdiff.adapter import Adapter
from rawdiff.data.dataset import DataInfo
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

    def score_keys(self, info: DataInfo) -> tuple[str, ...]:
        return ("",)

    def obstacle(self, basis: Basis) -> str | None:
        if basis.adapter is None:
            return (
                "samples are scored at another size than the model's, where its patches lie on no "
                "whole values. Leave `evaluate.size` out, or name other scores with `--metric`."
            )
        borders = patch_borders(basis.adapter, basis.info.shape[1:])
        if any(border.any() and not border.all() for border in borders):
            return None
        return (
            "no dim has neighbours both inside a patch and across a border: patches hold one "
            "value, or all. Name other scores with `--metric`."
        )

    def score(self, samples: Tensor, reference: Tensor, basis: Basis) -> dict[str, float]:
        if basis.adapter is None:
            return {}
        x = samples / basis.std.to(samples.device).view(1, -1, *(1,) * (samples.dim() - 2))
        borders = patch_borders(basis.adapter, x.shape[2:])
        ratios = []
        for dim, border in enumerate(border.to(x.device) for border in borders):
            difference = x.diff(dim=2 + dim).abs()
            total, count = difference.nansum((0, 1)), (~difference.isnan()).sum((0, 1))
            if count[border].any() and count[~border].any():
                across = total[border].sum() / count[border].sum()
                inside = total[~border].sum() / count[~border].sum()
                ratios.append(float(across / inside.clamp(min=SMALLEST)))
        return {"": sum(ratios) / len(ratios)} if ratios else {}


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
