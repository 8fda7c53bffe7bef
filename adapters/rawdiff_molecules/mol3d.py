"""Densities on the patch grid: three axes, x, y and z, none like another to the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator
from torch import Tensor

from rawdiff import grid
from rawdiff.adapter import Adapter, PatchLength
from rawdiff.grid import Axis
from rawdiff_molecules.lattice import AXES


def _cube(value: Any) -> Any:
    return (value, value, value) if isinstance(value, int) else value


Voxels = Annotated[
    tuple[PatchLength, PatchLength, PatchLength],
    BeforeValidator(_cube, json_schema_input_type=int | tuple[int, int, int]),
]
"""[x, y, z] in voxels; a recipe may write one number for a cube."""


class Mol3dAdapter(Adapter):
    """Densities [C, X, Y, Z] in patches of voxels."""

    patch_size: Voxels
    """Length of a patch along x, y and z; one number for all. [voxels]"""

    def axes(
        self, shape: Sequence[int], coordinates: Mapping[str, Sequence[float]]
    ) -> tuple[Axis, ...]:
        return grid.regular_axes(AXES, shape[1:], self.patch_size)

    def patchify(self, x: Tensor) -> Tensor:
        return grid.patchify(x, self.patch_size)

    def unpatchify(self, patches: Tensor, shape: Sequence[int]) -> Tensor:
        return grid.unpatchify(patches, shape[1:], self.patch_size)
