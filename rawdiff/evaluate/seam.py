"""Seams: do neighbouring values differ more across the borders of patches than inside them?"""

from __future__ import annotations

from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.data.seams import patch_borders, seam_ratio
from rawdiff.evaluate.evaluator import Basis, Evaluator, Goal


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
        std = basis.std.to(samples.device).view(1, -1, *(1,) * (samples.dim() - 2))
        ratio = seam_ratio(samples / std, basis.adapter)
        return {} if ratio is None else {"": ratio}
