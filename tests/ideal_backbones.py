"""Backbones whose every angle is known, built atom by atom."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from rawdiff_molecules.peptide import ANGLES, BONDS
from torch import Tensor


@dataclass(frozen=True)
class Residue:
    """Torsions in degrees; omega is that of the bond to the residue before."""

    phi: float
    psi: float
    omega: float = 180.0


def build(residues: list[Residue]) -> Tensor:
    """A backbone [L, 4, 3] of ideal lengths and angles, float64.

    (Natural extension: Parsons et al. 2005, doi 10.1002/jcc.20237)
    """
    zero = torch.zeros(3, dtype=torch.float64)
    atoms = [zero, zero + torch.tensor([BONDS["N-CA"], 0, 0])]
    turn = math.radians(180 - ANGLES["N-CA-C"])
    step = torch.tensor([math.cos(turn), math.sin(turn), 0.0], dtype=torch.float64)
    atoms.append(atoms[1] + BONDS["CA-C"] * step)
    for before, residue in itertools.pairwise(residues):
        atoms.append(_extend(atoms, BONDS["C-N"], ANGLES["CA-C-N"], before.psi))
        atoms.append(_extend(atoms, BONDS["N-CA"], ANGLES["C-N-CA"], residue.omega))
        atoms.append(_extend(atoms, BONDS["CA-C"], ANGLES["N-CA-C"], residue.phi))
    oxygens = [
        _extend(atoms[3 * i : 3 * i + 3], BONDS["C-O"], ANGLES["CA-C-O"], residue.psi + 180)
        for i, residue in enumerate(residues)
    ]
    return torch.cat(
        [torch.stack(atoms).unflatten(0, (-1, 3)), torch.stack(oxygens).unsqueeze(1)], dim=1
    )


def _extend(atoms: list[Tensor], length: float, bond_angle: float, torsion: float) -> Tensor:
    """The atom after the last three of them."""
    a, b, c = atoms[-3:]
    turn, twist = math.radians(180 - bond_angle), math.radians(torsion)
    forward = (c - b) / (c - b).norm()
    normal = torch.linalg.cross(b - a, forward)
    normal = normal / normal.norm()
    side = torch.linalg.cross(normal, forward)
    direction = (
        math.cos(turn) * forward
        + math.sin(turn) * math.cos(twist) * side
        + math.sin(turn) * math.sin(twist) * normal
    )
    return c + length * direction


def helix(num_residues: int) -> Tensor:
    """An ideal right-handed alpha helix [L, 4, 3]."""
    return build([Residue(-57, -47)] * num_residues)


def strand(num_residues: int) -> Tensor:
    """A twisted extended strand [L, 4, 3]."""
    return build([Residue(-120, 130)] * num_residues)


def mirrored(backbone: Tensor) -> Tensor:
    return backbone * torch.tensor([1, 1, -1])
