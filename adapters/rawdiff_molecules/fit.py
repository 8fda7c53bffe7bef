"""A least-squares fit of atoms to densities: Gauss and Newton, with the products in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rawdiff_molecules.lattice import Lattice, densities, profiles

NUM_STEPS = 4  # Newton's: from within half a voxel, each squares the error
MAX_STEP = 0.3  # Angstrom: further away the parabola says nothing
MIN_HEIGHT = 0.1  # of an atom whose place can be told
RIDGE = 1e-3  # of the diagonal: two atoms in one place stay solvable


@dataclass(frozen=True)
class Atoms:
    """Up to A atoms of each of B samples.

    `positions` [B, A, 3] in Angstrom, `heights` [B, A], `channel` [B, A] int64, and whether each
    one is there: `present` [B, A].
    """

    positions: Tensor
    heights: Tensor
    channel: Tensor
    present: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.positions, self.heights, self.channel, self.present

    def where(self, kept: Tensor) -> Atoms:
        """Those that are there and `kept` [B, A]."""
        return replace(self, present=self.present & kept)

    def take(self, order: Tensor) -> Atoms:
        """In another order [B, A]; places at the end where no sample has an atom are left out."""
        num = max(int(self.present.sum(1).max()), 1)
        order = order[:, :num]
        sample = torch.arange(len(order), device=order.device)[:, None]
        return Atoms(*(tensor[sample, order] for tensor in self.tensors))


def residual(atoms: Atoms, target: Tensor, lattice: Lattice) -> Tensor:
    """What the atoms leave unexplained of densities [B, C, X, Y, Z]."""
    heights = atoms.heights * atoms.present
    return target - densities(
        atoms.positions, heights[..., None] * _one_hot(atoms, lattice), lattice
    )


def fit(atoms: Atoms, target: Tensor, lattice: Lattice) -> Atoms:
    """Positions and heights moved to where their densities come nearest to `target`."""
    for _ in range(NUM_STEPS):
        slopes = _slopes(atoms, residual(atoms, target, lattice), lattice)
        step = torch.linalg.solve(_products(atoms, lattice), slopes.flatten(1))
        step = step.view_as(slopes)
        length = step[..., 1:].norm(dim=-1, keepdim=True)
        moves = step[..., 1:] * (MAX_STEP / length.clamp(min=MAX_STEP))
        atoms = replace(
            atoms, heights=atoms.heights + step[..., 0], positions=atoms.positions + moves
        )
    return atoms


def _one_hot(atoms: Atoms, lattice: Lattice) -> Tensor:
    channels = torch.arange(len(lattice.elements), device=atoms.channel.device)
    return (atoms.channel[..., None] == channels).float()


def _slopes(atoms: Atoms, rest: Tensor, lattice: Lattice) -> Tensor:
    """Products of what is left over with each atom's derivatives: [B, A, 4].

    The derivatives are those by height, x, y and z. g = exp(-d² / w²) is a product of three.
    """
    centres, w = lattice.centres(rest), lattice.width
    g = profiles(atoms.positions, lattice)
    dg = [
        2 / w**2 * (centres[i] - atoms.positions[..., i, None]) * g[i] for i in range(3)
    ]  # dg / dp
    mine = _one_hot(atoms, lattice)
    flat = rest.flatten(3).flatten(1, 2)  # [B, C X, Y Z]

    def along_x(gy: Tensor, gz: Tensor) -> Tensor:
        plane = (gy[..., None] * gz[:, :, None]).flatten(2).transpose(1, 2)  # [B, Y Z, A]
        all_channels = (flat @ plane).view(*rest.shape[:3], -1)
        return torch.einsum("bcxa,bac->bax", all_channels, mine)

    middle = along_x(g[1], g[2])
    by_height = (g[0] * middle).sum(-1)
    by_place = (
        (dg[0] * middle).sum(-1),
        (g[0] * along_x(dg[1], g[2])).sum(-1),
        (g[0] * along_x(g[1], dg[2])).sum(-1),
    )
    height = _solvable_heights(atoms)
    slopes = torch.stack((by_height, *(height * slope for slope in by_place)), -1)
    return slopes * atoms.present[..., None]


def _products(atoms: Atoms, lattice: Lattice) -> Tensor:
    """Products of all pairs of derivatives, summed over an endless lattice: [B, 4 A, 4 A].

    With D from b to a, G = <g_a, g_b> = (pi / 2)^1.5 w³ exp(-D² / 2 w²) / spacing³; the others are
    its derivatives.
    """
    w2 = lattice.width**2
    D = atoms.positions[:, :, None] - atoms.positions[:, None]  # [B, A, A, 3]
    mine = _one_hot(atoms, lattice)
    both = (mine @ mine.transpose(1, 2)) * atoms.present[:, :, None] * atoms.present[:, None]
    whole = (math.sqrt(math.pi / 2) * lattice.width / lattice.spacing) ** 3
    G = whole * both * torch.exp(-D.square().sum(-1) / (2 * w2))
    a_height = _solvable_heights(atoms)[:, :, None, None]
    b_height = a_height.transpose(1, 2)
    along = D * G[..., None] / w2
    eye = torch.eye(3, device=D.device)
    turn = (eye / w2 - D[..., :, None] * D[..., None, :] / w2**2) * G[..., None, None]
    products = torch.zeros(*G.shape, 4, 4, device=D.device)  # [B, A, A, 4 of a, 4 of b]
    products[..., 0, 0] = G
    products[..., 0, 1:] = along * b_height
    products[..., 1:, 0] = -along * a_height
    products[..., 1:, 1:] = turn * (a_height * b_height)[..., None]
    size = 4 * G.shape[1]
    matrix = products.permute(0, 1, 3, 2, 4).reshape(len(G), size, size)
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    return matrix + torch.diag_embed(torch.where(diagonal > 0, RIDGE * diagonal, 1.0))


def _solvable_heights(atoms: Atoms) -> Tensor:
    """Heights [B, A] kept away from 0, where a place would have no derivative."""
    return atoms.heights.clamp(min=MIN_HEIGHT)
