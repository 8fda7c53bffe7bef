"""The geometry of peptide bonds: neighbours, bond lengths and angles, torsions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rawdiff_molecules.geometry import CA, C, N, angle, dihedral, distance

CA_CA = 3.8
"""Distance of neighbours' CA in Angstrom, if the peptide bond between them is trans."""

BONDS = {"N-CA": 1.458, "CA-C": 1.525, "C-O": 1.231, "C-N": 1.329}
"""Lengths in Angstrom; the last one reaches to the next residue. (Engh and Huber 1991)"""

ANGLES = {
    "N-CA-C": 111.2,
    "CA-C-O": 120.8,
    "CA-C-N": 116.2,
    "O-C-N": 123.0,
    "C-N-CA": 121.7,
}
"""In degrees; all but the first two reach to the next residue. (Engh and Huber 1991)"""


def neighbours(index: Tensor, chain: Tensor | None = None) -> Tensor:
    """Whether residue i + 1 follows residue i along its chain: bool [..., L - 1].

    `index` [..., L] has gaps where residues are missing; NaN, in float, where there is none.
    """
    follows = index[..., 1:] - index[..., :-1] == 1
    return follows if chain is None else follows & (chain[..., 1:] == chain[..., :-1])


class Torsions(NamedTuple):
    """Of L residues [..., L], in radians; NaN at ends and where atoms are missing.

    `omega` is that of the bond to the residue before.
    """

    phi: Tensor
    psi: Tensor
    omega: Tensor


def torsions(backbone: Tensor, joined: Tensor) -> Torsions:
    """Of [..., L, 4, 3]; `joined` [..., L - 1] says which residues are bonded to the next."""
    n, ca, c = backbone[..., N, :], backbone[..., CA, :], backbone[..., C, :]
    before, after = slice(None, -1), slice(1, None)

    def between(*points: Tensor) -> Tensor:
        return torch.where(joined, dihedral(*points), torch.nan)

    def at(points: Tensor, part: slice) -> Tensor:
        return points[..., part, :]

    end = torch.full_like(n[..., :1, 0], torch.nan)
    phi = between(at(c, before), at(n, after), at(ca, after), at(c, after))
    psi = between(at(n, before), at(ca, before), at(c, before), at(n, after))
    omega = between(at(ca, before), at(c, before), at(n, after), at(ca, after))
    return Torsions(
        torch.cat([end, phi], dim=-1),
        torch.cat([psi, end], dim=-1),
        torch.cat([end, omega], dim=-1),
    )


def bond_lengths(backbone: Tensor, joined: Tensor) -> dict[str, Tensor]:
    """By the names of BONDS, in Angstrom: [..., L], NaN where there is none; C-N [..., L - 1]."""
    n, ca, c, o = backbone.unbind(dim=-2)
    to_next = distance(c[..., :-1, :], n[..., 1:, :])
    return {
        "N-CA": distance(n, ca),
        "CA-C": distance(ca, c),
        "C-O": distance(c, o),
        "C-N": torch.where(joined, to_next, torch.nan),
    }


def bond_angles(backbone: Tensor, joined: Tensor) -> dict[str, Tensor]:
    """By the names of ANGLES, in degrees: [..., L]; those to the next residue [..., L - 1]."""
    n, ca, c, o = backbone.unbind(dim=-2)
    n_next, ca_next = n[..., 1:, :], ca[..., 1:, :]
    ca_here, c_here, o_here = ca[..., :-1, :], c[..., :-1, :], o[..., :-1, :]
    across = {
        "CA-C-N": angle(ca_here, c_here, n_next),
        "O-C-N": angle(o_here, c_here, n_next),
        "C-N-CA": angle(c_here, n_next, ca_next),
    }
    inside = {"N-CA-C": angle(n, ca, c), "CA-C-O": angle(ca, c, o)}
    found = inside | {k: torch.where(joined, v, torch.nan) for k, v in across.items()}
    return {name: torch.rad2deg(found[name]) for name in ANGLES}


def count_clashes(ca: Tensor, joined: Tensor, limit: float = 3.0) -> Tensor:
    """Pairs [...] of CA [..., L, 3] under `limit` Angstrom apart that are not bonded."""
    near = distance(ca.unsqueeze(-2), ca.unsqueeze(-3)) < limit
    bonded = torch.diag_embed(joined, offset=1)
    return (torch.triu(near, diagonal=1) & ~bonded).sum(dim=(-1, -2))


def expected_radius(num_residues: Tensor) -> Tensor:
    """Radius of gyration in Angstrom of a folded chain. (Skolnick et al. 1997: 2.2 N^0.38)"""
    return 2.2 * num_residues.double() ** 0.38
