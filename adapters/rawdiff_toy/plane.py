"""The truth of the toy: a spiral in the plane, and the plane's place among D dimensions.

A point y [2] of the plane becomes x = Q y [D]; Q [D, 2] is a fixed random matrix with orthonormal
columns, so that lengths stay and all directions but two hold nothing. (Li and He 2025, Fig. 2)
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from rawdiff import philox

NUM_TURNS = 2
RADIUS = 2.0  # each of the two coordinates has a spread of about 1, like the noise
NUM_PIECES = 4096
POINTS_AT_ONCE = 1024
SEED = 2511_13720  # of the plane: the same in every run


def spiral(u: Tensor) -> Tensor:
    """Points of the spiral of Archimedes at u in [0, 1], from the centre out: [..., 2].

    The angle grows as sqrt(u), so that even u lie nearly evenly along the line.
    """
    r = u.sqrt()
    angle = 2 * math.pi * NUM_TURNS * r
    return RADIUS * torch.stack((r * angle.cos(), r * angle.sin()), dim=-1)


@cache
def projection(num_dims: int) -> Tensor:
    """Q [D, 2], float64, with orthonormal columns: a function of D alone. (Gram and Schmidt)"""
    index = torch.tensor([num_dims])
    a, b = philox.normal(SEED, philox.Stream.DATA, index, 2 * num_dims).double().view(2, num_dims)
    a = a / a.norm()
    b = b - (a @ b) * a
    return torch.stack((a, b / b.norm()), dim=1)


def on_plane(x: Tensor) -> Tensor:
    """Coordinates on the plane of points x [n, D]: [n, 2], float64."""
    return x.double() @ projection(x.shape[1])


def energy_off_plane(x: Tensor) -> Tensor:
    """Squared length of what points x [n, D] hold beside the plane: [n], float64."""
    return (x.double() - on_plane(x) @ projection(x.shape[1]).T).square().sum(1)


def distance_to_spiral(y: Tensor) -> Tensor:
    """Distance of points y [n, 2] of the plane to the nearest of the spiral: [n], float64.

    The line is drawn with 4096 straight pieces; the error is at most 1e-5.
    """
    y = y.double()
    corners = spiral(torch.linspace(0, 1, NUM_PIECES + 1, dtype=torch.float64).square())
    nearest = torch.cat(
        [torch.cdist(part, corners).argmin(1) for part in torch.split(y, POINTS_AT_ONCE)]
    )
    before, after = (nearest - 1).clamp(min=0), nearest.clamp(max=NUM_PIECES - 1)
    distances = [_distance_to_piece(y, corners[i], corners[i + 1]) for i in (before, after)]
    return torch.minimum(*distances)


def _distance_to_piece(y: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Distance of each point [n, 2] to its own straight piece from start [n, 2] to end: [n]."""
    along, away = end - start, y - start
    s = ((away * along).sum(1) / along.square().sum(1)).clamp(0, 1)
    return (away - s[:, None] * along).norm(dim=1)
