"""Points in space: distances, angles, likeness; NaN where an atom is missing."""

from __future__ import annotations

import torch
from torch import Tensor

from rawdiff.data.dataset import DataInfo
from rawdiff_molecules.entry import BACKBONE
from rawdiff_molecules.motion import superpose

NUM_ATOMS = 4  # N, CA, C, O
N, CA, C, O = range(NUM_ATOMS)  # noqa: E741 - the names of the atoms


def present(points: Tensor) -> Tensor:
    """Which of points [..., 3] are there: bool [...]."""
    return points.isfinite().all(dim=-1)


def rmsd(a: Tensor, b: Tensor, where: Tensor | None = None) -> Tensor:
    """Root mean square distance [...] of points [..., n, 3] as they lie; over those both have."""
    both = present(a) & present(b)
    both = both if where is None else both & where
    square = torch.where(both, (a - b).square().sum(dim=-1), 0)
    return (square.sum(dim=-1) / both.sum(dim=-1)).sqrt()


def superposed_rmsd(moving: Tensor, fixed: Tensor, where: Tensor | None = None) -> Tensor:
    """Root mean square distance [...] after the best superposition, without reflection."""
    both = present(moving) & present(fixed)
    rotation, own, other = superpose(moving, fixed, both if where is None else both & where)
    return rmsd((moving - own) @ rotation + other, fixed, where)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Between points [..., 3]; broadcasts."""
    return (a - b).norm(dim=-1)


def distance_map(points: Tensor) -> Tensor:
    """All distances [..., n, n] of points [..., n, 3], symmetric to the bit; NaN where missing."""
    return distance(points.unsqueeze(-2), points.unsqueeze(-3))


def angle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """At b between the lines to a and c, in radians, 0 to pi."""
    u, v = a - b, c - b
    return torch.atan2(torch.linalg.cross(u, v).norm(dim=-1), (u * v).sum(dim=-1))


def dihedral(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Of the planes (a, b, c) and (b, c, d), in radians, -pi to pi; 0 is cis. (IUPAC 1974)

    A mirror image has the opposite sign.
    """
    axis = c - b
    left, right = torch.linalg.cross(b - a, axis), torch.linalg.cross(axis, d - c)
    y = (torch.linalg.cross(left, right) * axis).sum(dim=-1) / axis.norm(dim=-1)
    return torch.atan2(y, (left * right).sum(dim=-1))


def virtual_cb(backbone: Tensor) -> Tensor:
    """Where CB [..., 3] of an L-amino acid is, by N, CA and C of [..., 4, 3], in Angstrom.

    Also of glycine, which has none. (Yang et al. 2020, doi 10.1073/pnas.1914677117)
    """
    b = backbone[..., CA, :] - backbone[..., N, :]
    c = backbone[..., C, :] - backbone[..., CA, :]
    a = torch.linalg.cross(b, c)
    return -0.58273431 * a + 0.56802827 * b - 0.54067466 * c + backbone[..., CA, :]


def radius_of_gyration(points: Tensor) -> Tensor:
    """Root mean square distance [...] of points [..., n, 3] from their centre; missing left out."""
    there = present(points)
    centre = points.nanmean(dim=-2, keepdim=True)
    return rmsd(points, centre.expand_as(points), there)


def is_backbone(info: DataInfo) -> bool:
    """Whether samples are [3 A, L] coordinates of some of the backbone's atoms, CA among them."""
    atoms = _atoms(info)
    return len(info.shape) == 2 and "CA" in atoms and {*atoms} <= {*BACKBONE}


def all_atoms(x: Tensor, info: DataInfo) -> Tensor:
    """Samples [n, 3 A, L] with the coordinates of all four atoms [n, 12, L], NaN for the others."""
    found = x.new_full((len(x), 3 * NUM_ATOMS, x.shape[2]), torch.nan)
    for k, atom in enumerate(_atoms(info)):
        to = 3 * BACKBONE.index(atom)
        found[:, to : to + 3] = x[:, 3 * k : 3 * k + 3]
    return found


def _atoms(info: DataInfo) -> list[str]:
    """Of each residue, in the order of the channels."""
    return [name.partition(".")[0] for name in info.channels[::3]]


def as_backbone(x: Tensor) -> Tensor:
    """Backbones [n, L, 4, 3] of samples [n, 12, L], whose channels are N.x, N.y, … O.z."""
    return x.mT.reshape(len(x), x.shape[-1], NUM_ATOMS, 3)


def as_sample(backbone: Tensor) -> Tensor:
    """Samples [n, 12, L] of backbones [n, L, 4, 3]."""
    return backbone.flatten(-2).mT
