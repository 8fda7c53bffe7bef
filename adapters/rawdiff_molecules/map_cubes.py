"""Cubes cut out of density maps as samples: maps of electron microscopy, of crystals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import permutations, product
from math import isclose
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rawdiff.data.dataset import Array, Batch, DataInfo, Dataset, Draw, Finding, Sample
from rawdiff.errors import UserError
from rawdiff_molecules.lattice import AXES
from rawdiff_molecules.maps import DensityMap, read_map

SUFFIXES = (".mrc", ".map", ".ccp4", ".mrc.gz", ".map.gz", ".ccp4.gz")
SAME_SPACING = 0.01  # relative
NUM_KEPT = 2  # maps in memory, of each process


class MapCubes(Dataset):
    """Cubes [1, n, n, n] cut out of the maps below a folder.

    They overlap by half. Each map is brought to mean 0 and spread 1, as units differ from map to
    map.
    """

    path: Path
    """The folder of the maps (.mrc, .map, .ccp4, also .gz)."""
    num_voxels: int = Field(default=32, ge=2)
    """Voxels of a cube along each axis. [voxels]"""
    spacing: Annotated[float, Field(gt=0)]
    """Size of a voxel, which all maps must have. [Angstrom]"""
    turn: bool = True
    """In training, turns each cube by one of the 24 rotations of a cube; never mirrored."""

    @property
    def info(self) -> DataInfo:
        centres = tuple((i - (self.num_voxels - 1) / 2) * self.spacing for i in self._along)
        return DataInfo(
            shape=(1, *(self.num_voxels,) * 3),
            channels=("density",),
            units=("spread of its map",),
            coordinates=dict.fromkeys(AXES, centres),
            writer="maps",
            meaning={"density": "map", "spacing": f"{self.spacing:g} angstrom"},
        )

    def __len__(self) -> int:
        return len(self._corners)

    def __getitem__(self, index: int) -> Sample:
        number, *corner = self._corners[index]
        cube = tuple(slice(start, start + self.num_voxels) for start in corner)
        return Sample(_standardized(self._files[number]).values[cube][None].copy())

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        if not self.turn:
            return batch
        rotations = batch.x.new_tensor(CUBE_ROTATIONS)
        return replace(batch, x=turned(batch.x, rotations[(draw(1)[:, 0] * 24).long()]))

    def findings(self) -> Iterator[Finding]:
        yield Finding("maps", f"{len(self._files):,} files, {len(self):,} overlapping cubes")

    @property
    def _along(self) -> range:
        return range(self.num_voxels)

    @cached_property
    def _files(self) -> list[Path]:
        found = [self.path] if self.path.is_file() else sorted(self.path.rglob("*"))
        files = [path for path in found if path.name.lower().endswith(SUFFIXES)]
        if not files:
            raise UserError(
                f"{self.path} holds no density maps (names that end in {', '.join(SUFFIXES)})."
            )
        return files

    @cached_property
    def _corners(self) -> Array:
        """Map and first voxel along x, y and z of each cube: [n, 4]. Reads all maps once."""
        corners = [
            (number, *corner)
            for number, path in enumerate(self._files)
            for corner in self._corners_in(path)
        ]
        return np.array(corners)

    def _corners_in(self, path: Path) -> Iterator[tuple[int, ...]]:
        density = read_map(path)
        if not all(isclose(s, self.spacing, rel_tol=SAME_SPACING) for s in density.spacing):
            raise UserError(
                f"{path} has voxels of {', '.join(f'{s:.4g}' for s in density.spacing)} Angstrom, "
                f"not {self.spacing:g}. Give its own as `data.spacing`, or resample the map."
            )
        if min(density.values.shape) < self.num_voxels:
            raise UserError(
                f"{path} has {' x '.join(map(str, density.values.shape))} voxels: no cube of "
                f"{self.num_voxels} fits. Lower `data.num_voxels`."
            )
        return product(*(self._starts(size) for size in density.values.shape))

    def _starts(self, size: int) -> list[int]:
        """Every half cube, and one that ends with the map."""
        last = size - self.num_voxels
        return sorted({*range(0, last, max(self.num_voxels // 2, 1)), last})


@lru_cache(maxsize=NUM_KEPT)
def _standardized(path: Path) -> DensityMap:
    density = read_map(path)
    values = density.values - density.values.mean(dtype=np.float64)
    return replace(density, values=(values / (values.std() or 1.0)).astype(np.float32))


def _cube_rotations() -> list[list[list[float]]]:
    """The 24 matrices that permute axes and change signs and are proper."""
    signed: list[Any] = [
        np.eye(3)[list(order)] * signs
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    ]
    return [matrix.tolist() for matrix in signed if np.linalg.det(matrix) > 0]


CUBE_ROTATIONS = _cube_rotations()


def turned(x: Tensor, rotations: Tensor) -> Tensor:
    """Cubes [B, C, n, n, n], each by its rotation [B, 3, 3] out of CUBE_ROTATIONS."""
    n = x.shape[-1]
    along = torch.arange(n, device=x.device) - (n - 1) / 2
    places = torch.cartesian_prod(along, along, along)  # [n³, 3]
    x_i, y_i, z_i = ((places @ rotations) + (n - 1) / 2).round().long().unbind(-1)
    flat = (x_i * n + y_i) * n + z_i  # [B, n³]
    return x.flatten(2).gather(2, flat[:, None].expand(-1, x.shape[1], -1)).view_as(x)
