"""Between raw samples and the core: standardize, cut into patches, mark what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.adapter import Adapter
from rawdiff.data.dataset import Batch
from rawdiff.data.geometry import Geometry
from rawdiff.data.statistics import Moments, Statistics
from rawdiff.errors import UserError
from rawdiff.grid import PatchGrid
from rawdiff.plugins import described


@dataclass(frozen=True)
class Patches:
    """B samples as the core sees them, standardized.

    x [B, N, P] with 0 where missing. known [B, N, P] says which values are there (None: all);
    present [B, N] which patches have any (None: all). weight [B, N, P] multiplies squared errors
    and is 0 where missing (None: 1 everywhere). extra [B, N, …] are known values. positions
    [B, N, axes] say where the patches lie (None: where the grid says).
    """

    x: Tensor
    known: Tensor | None
    present: Tensor | None
    weight: Tensor | None
    extra: Tensor | None
    scalars: Tensor | None
    positions: Tensor | None


class Patcher:
    """Standardization, adapter, geometry and missing values of a run, for samples of one shape.

    UserError where standardization treats channels differently although the data have a geometry,
    and for an adapter whose patches are not those of the grid or do not give a sample back.
    """

    def __init__(
        self,
        adapter: Adapter,
        statistics: Statistics,
        grid: PatchGrid,
        place_names: Sequence[str] = (),
        geometry: Geometry | None = None,
    ) -> None:
        if geometry is not None:
            _require_one_scale(statistics.x)
        self.adapter, self.statistics, self.grid = adapter, statistics, grid
        self.place_names, self.geometry = tuple(place_names), geometry
        self.shape = tuple(statistics.ever_present.shape)
        ones = torch.where(statistics.ever_present, 1.0, torch.nan)
        _require_kept(adapter, grid, ones)
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
            positions=self.positions(batch.place),
        )

    def positions(self, place: Tensor | None) -> Tensor | None:
        """Where the patches of each sample lie [B, N, axes]; None: where the grid says."""
        if place is None:
            return None
        positions = self.adapter.sample_positions(place, self.place_names)
        expected = (len(place), self.grid.num_patches, len(self.grid.axes))
        if positions is not None and positions.shape != expected:
            wrong = f"`sample_positions` must be {list(expected)}, are {list(positions.shape)}"
            raise broken_adapter(self.adapter, wrong, self.shape)
        return positions

    def project(self, patches: Tensor, known: Tensor | None) -> Tensor:
        """Patches [B, N, P] of noise or of a prediction, in the subspace in which samples lie."""
        if self.geometry is None:
            return patches
        x = self.raw(patches if known is None else torch.where(known, patches, torch.nan))
        return self.adapter.patchify(self.geometry.project(x)).nan_to_num(0.0)

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

    def known(
        self, num_samples: int, device: torch.device, there: Tensor | None = None
    ) -> Tensor | None:
        """Which values [B, N, P] a generated sample has: all that training data ever had.

        Of those only the ones that are `there` (bool [B, C, …]), if that is given.
        """
        if self.all_known:
            return None
        ever = self._ever_known.to(device).expand(num_samples, -1, -1)
        if there is None:
            return ever
        return ever & self.adapter.patchify(there.float()).nan_to_num(0.0).bool()

    def raw(self, x: Tensor) -> Tensor:
        """Patches [B, N, P] to raw shape [B, C, …], still standardized."""
        return self.adapter.unpatchify(x, self.shape)


def broken_adapter(adapter: Adapter, wrong: str, shape: Sequence[int]) -> UserError:
    """The error for an adapter that cannot cut samples of a shape (C, …), or not into a grid."""
    who = described("adapters", type(adapter))
    return UserError(
        f"The adapter {who} cannot be used: {wrong}. Mend it; `rawdiff check-adapter NAME --shape "
        f"{','.join(map(str, shape))}` says which promises it keeps."
    )


def _require_kept(adapter: Adapter, grid: PatchGrid, like: Tensor) -> None:
    """UserError unless a sample of this shape has the grid's patches, and comes back from them."""
    patches = adapter.patchify(_counted(like))
    if not isinstance(patches, Tensor) or patches.dim() != 3 or len(patches) != 1:
        found = list(patches.shape) if isinstance(patches, Tensor) else type(patches).__name__
        wrong = f"`patchify` must return [B, N, P], returned {found} for B = 1"
    elif patches.shape[1] != grid.num_patches:
        wrong = (
            f"`axes` give {grid.num_patches} positions, but `patchify` makes {patches.shape[1]} "
            "patches; give each patch one position"
        )
    elif not torch.equal(adapter.unpatchify(patches, like.shape), _counted(like)):
        wrong = "unpatchify(patchify(x)) must be x to the bit, and x must stay as it is"
    else:
        return
    raise broken_adapter(adapter, wrong, like.shape)


def _counted(like: Tensor) -> Tensor:
    """[1, *shape] in which each value is another."""
    return torch.arange(like.numel(), dtype=like.dtype, device=like.device).view(1, *like.shape)


def _require_one_scale(moments: Moments) -> None:
    std = moments.std
    if bool((moments.mean != 0).any()) or bool((std != std[0]).any()):
        raise UserError(
            "The channels of these data are coordinates of points in space: standardization must "
            "divide all by one number and move none. Write `standardization: {mode: fixed, mean: "
            f"0, std: {float(std.square().mean().sqrt()):.2g}}}`."
        )


def _channels(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *(1,) * (x.dim() - 2))


def _standardize(x: Tensor, moments: Moments) -> Tensor:
    return (x.float() - _channels(moments.mean, x)) / _channels(moments.std, x)
