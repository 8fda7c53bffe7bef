"""Between raw samples and the core: standardize, cut into patches, mark what is missing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.adapter import Adapter
from rawdiff.data.dataset import Batch
from rawdiff.data.statistics import Moments, Statistics
from rawdiff.grid import PatchGrid


@dataclass(frozen=True)
class Patches:
    """B samples as the core sees them, standardized.

    x [B, N, P] with 0 where missing. known [B, N, P] says which values are there (None: all);
    present [B, N] which patches have any (None: all). weight [B, N, P] multiplies squared errors
    and is 0 where missing (None: 1 everywhere). extra [B, N, …] are known values.
    """

    x: Tensor
    known: Tensor | None
    present: Tensor | None
    weight: Tensor | None
    extra: Tensor | None
    scalars: Tensor | None


class Patcher:
    """Standardization, adapter and missing values of one run, for samples of one shape."""

    def __init__(self, adapter: Adapter, statistics: Statistics, grid: PatchGrid) -> None:
        self.adapter, self.statistics, self.grid = adapter, statistics, grid
        self.shape = tuple(statistics.ever_present.shape)
        ones = torch.where(statistics.ever_present, 1.0, torch.nan)
        self._ever_known = ~adapter.patchify(ones[None]).isnan()  # [1, N, P]; False in padding too
        self.all_known = bool(self._ever_known.all()) and not statistics.missing_varies

    @property
    def patch_dim(self) -> int:
        return self._ever_known.shape[-1]

    @property
    def extra_dim(self) -> int:
        """How many known values come with each patch."""
        masks = self.patch_dim if self.statistics.missing_varies else 0
        if self.statistics.context is None:
            return masks
        num_context_channels = len(self.statistics.context.mean)
        values = self.patch_dim // self.shape[0] * num_context_channels
        return masks + values * (2 if self.statistics.context_missing else 1)

    def standardize(self, x: Tensor) -> Tensor:
        """Raw [B, C, …] in data units to mean 0, spread 1; NaN stays."""
        return _standardize(x, self.statistics.x)

    def destandardize(self, x: Tensor) -> Tensor:
        """Back to data units."""
        return x * _channels(self.statistics.x.std, x) + _channels(self.statistics.x.mean, x)

    def patches(self, batch: Batch) -> Patches:
        """A raw batch in data units to patches."""
        x = self.adapter.patchify(self.standardize(batch.x))
        known = None if self.all_known else ~x.isnan()
        weight = None if known is None else known.float()
        if batch.weight is not None:
            own = self._weight(batch.weight, batch.x)
            weight = own if weight is None else own * weight
        return Patches(
            x=x if known is None else x.nan_to_num(0.0),
            known=known,
            present=None if known is None else known.any(-1),
            weight=weight,
            extra=self.extra(batch.context, known),
            scalars=self.scalars(batch.scalars),
        )

    def _weight(self, weight: Tensor, x: Tensor) -> Tensor:
        """Weights that broadcast to x [B, C, …], to patches; the padding weighs nothing."""
        return self.adapter.patchify(weight.float().expand(x.shape)).nan_to_num(0.0)

    def scalars(self, scalars: Tensor | None) -> Tensor | None:
        """Scalars [B, S] in data units to mean 0, spread 1; NaN (unknown) stays."""
        if scalars is None or self.statistics.scalars is None:
            return None
        return _standardize(scalars, self.statistics.scalars)

    def extra(self, context: Tensor | None, known: Tensor | None) -> Tensor | None:
        """What the network is told of each patch: which values are known, context and its gaps."""
        parts = []
        if self.statistics.missing_varies and known is not None:
            parts.append(known.float())
        if context is not None and self.statistics.context is not None:
            values = self.adapter.patchify(_standardize(context, self.statistics.context))
            parts.append(values.nan_to_num(0.0))
            if self.statistics.context_missing:
                parts.append((~values.isnan()).float())
        return torch.cat(parts, dim=-1) if parts else None

    def known(self, num_samples: int, device: torch.device) -> Tensor | None:
        """Which values [B, N, P] a generated sample has: all that training data ever had."""
        if self.all_known:
            return None
        return self._ever_known.to(device).expand(num_samples, -1, -1)

    def raw(self, x: Tensor) -> Tensor:
        """Patches [B, N, P] to raw shape [B, C, …], still standardized."""
        return self.adapter.unpatchify(x, self.shape)


def _channels(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (x.dim() - 2))


def _standardize(x: Tensor, moments: Moments) -> Tensor:
    return (x.float() - _channels(moments.mean, x)) / _channels(moments.std, x)
