"""Densities of atoms on a regular lattice: where its voxels lie, and atoms to densities.

An atom at distance d gives exp(-d² / w²) to its element's channel, w = 0.93 r with the radius r of
VoxMol (Pinheiro et al. 2023, arXiv 2306.07473); what atoms give is added up. Such a density is a
product of three, one for each axis: atoms become densities by one matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError

AXES = ("x", "y", "z")
WIDTH_OF_RADIUS = 0.93
DENSITY = "sum of exp(-(d / 0.93 r)^2)"


@dataclass(frozen=True)
class Lattice:
    """Voxels of `spacing` Angstrom with the origin in their middle, at index (n - 1) / 2.

    `radius` is r of all atoms, in Angstrom. `elements` are the symbols of the channels.
    """

    num_voxels: tuple[int, int, int]
    spacing: float
    radius: float
    elements: tuple[str, ...]

    @classmethod
    def of(cls, info: DataInfo) -> Lattice:
        """The lattice of such data. UserError unless they are densities of atoms."""
        if "radius" not in info.meaning or tuple(info.coordinates) != AXES:
            raise UserError(
                f"Atoms are found in densities on a lattice, but these data have the channels "
                f"{', '.join(info.channels)} along {', '.join(info.coordinates) or 'no axes'}. "
                "Use a run of `data: {name: molecules}`."
            )
        xs = info.coordinates["x"]
        nx, ny, nz = (len(info.coordinates[axis]) for axis in AXES)
        spacing = (xs[-1] - xs[0]) / (nx - 1)
        return cls((nx, ny, nz), spacing, float(info.meaning["radius"]), info.channels)

    @property
    def width(self) -> float:
        """w of exp(-d² / w²), in Angstrom."""
        return WIDTH_OF_RADIUS * self.radius

    @staticmethod
    def middle(info: DataInfo) -> tuple[float, float, float]:
        """Where the origin lies in the coordinates of such data: not at 0 where a template says."""
        x, y, z = ((info.coordinates[axis][0] + info.coordinates[axis][-1]) / 2 for axis in AXES)
        return x, y, z

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, X, Y, Z)."""
        return (len(self.elements), *self.num_voxels)

    @property
    def coordinates(self) -> dict[str, tuple[float, ...]]:
        """Centres of the voxels along each axis, in Angstrom."""
        return {
            axis: tuple((i - (n - 1) / 2) * self.spacing for i in range(n))
            for axis, n in zip(AXES, self.num_voxels, strict=True)
        }

    @property
    def meaning(self) -> Mapping[str, str]:
        """What `of` reads back, beside the channels and coordinates."""
        return {"density": DENSITY, "radius": f"{self.radius:g}"}

    @property
    def half_box(self) -> tuple[float, float, float]:
        """From the origin to the walls: the outer faces of the outer voxels, in Angstrom."""
        x, y, z = (n * self.spacing / 2 for n in self.num_voxels)
        return x, y, z

    def centres(self, like: Tensor) -> list[Tensor]:
        """Centres of the voxels along x, y and z, on the device of `like`."""
        return [
            (torch.arange(n, device=like.device, dtype=torch.float32) - (n - 1) / 2) * self.spacing
            for n in self.num_voxels
        ]


def profiles(positions: Tensor, lattice: Lattice) -> list[Tensor]:
    """exp(-d² / w²) along each axis: positions [B, A, 3] to [B, A, X], [B, A, Y], [B, A, Z]."""
    return [
        torch.exp(-(((positions[..., i, None] - centres) / lattice.width) ** 2))
        for i, centres in enumerate(lattice.centres(positions))
    ]


def densities(positions: Tensor, heights: Tensor, lattice: Lattice) -> Tensor:
    """Atoms at positions [B, A, 3] with heights [B, A, C] in each channel to [B, C, X, Y, Z]."""
    along_x, along_y, along_z = profiles(positions, lattice)
    left = (heights[..., None] * along_x[:, :, None]).flatten(2)  # [B, A, C X]
    right = (along_y[..., None] * along_z[:, :, None]).flatten(2)  # [B, A, Y Z]
    return (left.transpose(1, 2) @ right).view(len(positions), *lattice.shape)


def voxelize(atoms: Tensor, lattice: Lattice) -> Tensor:
    """Atoms [B, A, 4] = (x, y, z, channel), NaN rows for none, to densities [B, C, X, Y, Z]."""
    channels = torch.arange(len(lattice.elements), device=atoms.device)
    heights = (atoms[..., 3:] == channels).float()  # NaN is no channel
    return densities(atoms[..., :3].nan_to_num(0.0), heights, lattice)
