"""Maps of pairs of residues as a square of patches, both sides of which are the same chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from rawdiff import grid
from rawdiff.adapter import Adapter
from rawdiff.grid import Axis


class PairMap2dAdapter(Adapter):
    """Squares of residues; a gap in their numbers is one between patches."""

    patch_size: int = Field(default=8, ge=1)
    """Residues of a patch each way. [residues]"""

    @property
    def _square(self) -> tuple[int, int]:
        return self.patch_size, self.patch_size

    def axes(
        self, shape: Sequence[int], coordinates: Mapping[str, Sequence[float]]
    ) -> tuple[Axis, ...]:
        return grid.regular_axes(["first", "second"], shape[1:], self._square, pad=True)

    def sample_positions(self, place: Tensor, names: Sequence[str]) -> Tensor:
        residue = place[:, names.index("residue")].nanmean(dim=-1)  # [B, L]: alike along a row
        patches = grid.patchify(residue[:, None], (self.patch_size,))
        centres = (patches.nanmean(dim=-1) / self.patch_size).nan_to_num(0.0)
        num = centres.shape[1]
        first, second = (
            centres[:, :, None].expand(-1, -1, num),
            centres[:, None].expand(-1, num, -1),
        )
        return torch.stack([first, second], dim=-1).flatten(1, 2)

    def patchify(self, x: Tensor) -> Tensor:
        return grid.patchify(x, self._square)

    def unpatchify(self, patches: Tensor, shape: Sequence[int]) -> Tensor:
        return grid.unpatchify(patches, shape[1:], self._square)
