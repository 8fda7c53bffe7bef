"""Chains of residues as a row of patches, each where its residues stand along their chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from einops import rearrange
from pydantic import Field
from torch import Tensor

from rawdiff import grid
from rawdiff.adapter import Adapter
from rawdiff.grid import Axis

AXES = ("residue", "chain")
"""The rows of `place` that are axes; chains only where samples have several."""


class Residue1dAdapter(Adapter):
    """Neighbours along the chain make a patch; a gap in their numbers is one between patches."""

    num_residues: int = Field(default=1, ge=1)
    """How many make a patch. [residues]"""

    def axes(
        self, shape: Sequence[int], coordinates: Mapping[str, Sequence[float]]
    ) -> tuple[Axis, ...]:
        axes = grid.regular_axes(["residue"], shape[1:], [self.num_residues], pad=True)
        return (*axes, Axis("chain", (0.0,))) if "chain" in coordinates else axes

    def sample_positions(self, place: Tensor, names: Sequence[str]) -> Tensor:
        rows = place[:, [names.index(name) for name in AXES if name in names]]
        patches = grid.patchify(rows, (self.num_residues,))
        centres = rearrange(patches, "b n (p a) -> b n p a", a=rows.shape[1]).nanmean(2)
        centres[..., 0] /= self.num_residues
        return centres.nan_to_num(0.0)

    def patchify(self, x: Tensor) -> Tensor:
        return grid.patchify(x, (self.num_residues,))

    def unpatchify(self, patches: Tensor, shape: Sequence[int]) -> Tensor:
        return grid.unpatchify(patches, shape[1:], (self.num_residues,))
