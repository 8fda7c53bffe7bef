"""Maps of pairs of residues: distances of CA, and how the side chains lie to one another.

Both are the same wherever a chain lies and however it is turned. Distances are also those of the
mirror image; the angle omega tells it apart, as it has the opposite sign there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rawdiff_molecules.geometry import CA, dihedral, distance_map, virtual_cb

DISTANCE, LOG_DISTANCE = "distance", "log_distance"
OMEGA = ("sin_omega", "cos_omega")


def is_pair_map(channels: Sequence[str]) -> bool:
    """Whether samples with these channels are maps: a distance, and omega or not."""
    return tuple(channels[:1]) in ((DISTANCE,), (LOG_DISTANCE,)) and tuple(channels[1:]) in (
        OMEGA,
        (),
    )


def pair_maps(backbone: Tensor) -> Tensor:
    """Maps [..., 3, L, L] of distance and OMEGA, each symmetric, of backbones [..., L, 4, 3].

    NaN where an atom is missing, and on the diagonal of omega.
    """
    ca = backbone[..., CA, :]
    angle = omega(ca, virtual_cb(backbone))
    return torch.stack([distance_map(ca), angle.sin(), angle.cos()], dim=-3)


def omega(ca: Tensor, cb: Tensor) -> Tensor:
    """The dihedral [..., L, L] of CA, CB of one and CB, CA of the other residue, in radians.

    NaN on the diagonal. (Yang et al. 2020, doi 10.1073/pnas.1914677117)
    """
    i, j = (..., slice(None), None, slice(None)), (..., None, slice(None), slice(None))
    found = dihedral(ca[i], cb[i], cb[j], ca[j])
    upper = torch.triu(found, diagonal=1)
    alike = upper + upper.mT  # rounding makes the two differ in the last bit
    same = torch.eye(ca.shape[-2], dtype=torch.bool, device=ca.device)
    return torch.where(same, torch.nan, alike)


def outward(ca: Tensor) -> Tensor:
    """Points [..., L, 3] on that side of CA [..., L, 3] where the chain bends away from.

    Near it is CB. Made of CA alone, and of a mirror image the mirror image. NaN at both ends.
    """
    bend = 2 * ca[..., 1:-1, :] - ca[..., :-2, :] - ca[..., 2:, :]
    side = bend / bend.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    end = torch.full_like(ca[..., :1, :], torch.nan)
    return torch.cat([end, ca[..., 1:-1, :] + 1.5 * side, end], dim=-2)
