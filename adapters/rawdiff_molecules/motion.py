"""Motions of rigid bodies: uniform rotations, superposition, the centre of known points.

Points are [..., n, 3]; a rotation [..., 3, 3] acts as `points @ rotation`. Reflections are no
motions: they make left hands of right ones, and other molecules.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rawdiff.data.dataset import Draw
from rawdiff.data.geometry import Geometry


def uniform_rotations(draw: Draw) -> Tensor:
    """Proper rotations [B, 3, 3], uniform over all there are; three numbers of `draw` each.

    By uniform unit quaternions. (Shoemake 1992, "Uniform random rotations")
    """
    u = draw(3).double()
    a, b = (1 - u[:, 0]).sqrt(), u[:, 0].sqrt()
    alpha, beta = 2 * math.pi * u[:, 1], 2 * math.pi * u[:, 2]
    return _of_quaternions(a * alpha.sin(), a * alpha.cos(), b * beta.sin(), b * beta.cos()).float()


def _of_quaternions(x: Tensor, y: Tensor, z: Tensor, w: Tensor) -> Tensor:
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def centre(points: Tensor, known: Tensor) -> Tensor:
    """The mean [..., 1, 3] of the points that are known [..., n]; 0 where none is."""
    weight = known[..., None].to(points.dtype)
    total = torch.where(known[..., None], points, 0).sum(-2, keepdim=True)
    return total / weight.sum(-2, keepdim=True).clamp(min=1)


def superpose(points: Tensor, target: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The motion that brings `points` nearest to `target` [..., n, 3] where `known` [..., n].

    Rotation [..., 3, 3] and both centres [..., 1, 3]: (points - centre) @ rotation + target centre.
    The least sum of squared distances over proper rotations, in float64. (Kabsch 1976)
    """
    points, target = points.double(), target.double()
    centre_points, centre_target = centre(points, known), centre(target, known)
    weight = known[..., None]
    a = torch.where(weight, points - centre_points, 0)
    b = torch.where(weight, target - centre_target, 0)
    u, _, vh = torch.linalg.svd(a.mT @ b)
    hand = torch.linalg.det(u @ vh).sign()
    signs = torch.ones_like(u[..., 0])
    signs[..., 2] = torch.where(hand < 0, -1.0, 1.0)
    return u * signs[..., None, :] @ vh, centre_points, centre_target


class RigidMotion(Geometry):
    """Samples [B, 3 K, L] of K points at each of L places, with x, y, z of each as channels.

    Their centre is at 0, and they stay what they are wherever they are moved and however turned.
    """

    def project(self, x: Tensor) -> Tensor:
        points = to_points(x)
        return to_channels(points - centre(points, known_points(points)), x.shape)

    def align(self, x: Tensor, target: Tensor, where: Tensor) -> Tensor:
        """By superposition of the points that are known in both, and all of them in `where`."""
        points, goal = to_points(x), to_points(target)
        chosen = known_points(points) & known_points(goal) & to_points(where).all(-1)
        rotation, own, other = superpose(points, goal, chosen)
        moved = (points.double() - own) @ rotation + other
        some = chosen.any(-1)[:, None, None]  # with nothing to lie upon, it stays
        return to_channels(torch.where(some, moved.to(points), points), x.shape)


def to_points(x: Tensor) -> Tensor:
    """[B, 3 K, L] to points [B, K L, 3]."""
    return x.reshape(len(x), -1, 3, x.shape[2]).movedim(2, -1).flatten(1, 2)


def to_channels(points: Tensor, shape: torch.Size) -> Tensor:
    """Undoes `to_points`."""
    return points.reshape(shape[0], -1, shape[2], 3).movedim(-1, 2).reshape(shape)


def known_points(points: Tensor) -> Tensor:
    """Which points [..., n] have all their coordinates."""
    return ~points.isnan().any(-1)
