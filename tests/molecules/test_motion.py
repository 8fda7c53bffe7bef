"""Rotations are uniform and proper, and bodies lie upon each other as well as they can."""

import math

import torch
from rawdiff_molecules.motion import RigidMotion, superpose, to_channels, to_points
from rawdiff_molecules.motion import uniform_rotations as rotations_of
from torch import Tensor

from rawdiff import philox


def many_rotations(count: int = 40_000) -> Tensor:
    index = torch.arange(count)
    return rotations_of(lambda n: philox.uniform(5, philox.Stream.AUGMENT, index, n))


def body(num: int = 2, length: int = 7) -> Tensor:
    """Backbones [B, 12, L] with a missing atom each and an end that is not there."""
    x = torch.randn(num, 12, length, generator=torch.Generator().manual_seed(1)) * 5
    x[:, 3:6, 2] = torch.nan
    x[:, :, -1] = torch.nan
    return x


def test_rotations_are_proper() -> None:
    r = many_rotations(1000).double()
    assert torch.allclose(r @ r.mT, torch.eye(3, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(torch.linalg.det(r), torch.ones(1000, dtype=torch.float64), atol=1e-5)


def test_rotations_are_uniform_over_all_there_are() -> None:
    """Haar measure: every image of every axis is uniform on the sphere, each angle w has the
    density (1 - cos w) / pi, and the mean of R x R is that of the invariant."""
    r = many_rotations().double()
    count = len(r)
    assert r.mean(0).abs().max() < 4 / math.sqrt(3 * count)
    for image in r.reshape(count, 9).T:  # each entry is a coordinate on the sphere: uniform
        bins = torch.histc(image, 20, -1, 1)
        chi_square = float(((bins - count / 20).square() / (count / 20)).sum())
        assert chi_square < 50  # 19 degrees of freedom: beyond 50 once in 10,000
    trace = r.diagonal(dim1=1, dim2=2).sum(-1)
    angle = ((trace - 1) / 2).clamp(-1, 1).acos()
    edges = torch.linspace(0, math.pi, 21, dtype=torch.float64)
    cumulative = (edges - edges.sin()) / math.pi
    expected = cumulative.diff() * count
    found = torch.histogram(angle, edges).hist
    assert float(((found - expected).square() / expected).sum()) < 50


def test_points_and_channels_are_one() -> None:
    x = body()
    points = to_points(x)
    assert points.shape == (2, 28, 3)
    back = to_channels(points, x.shape)
    assert torch.equal(back.nan_to_num(-1), x.nan_to_num(-1))
    assert torch.equal(points[0, 8], x[0, 3:6, 1])  # CA of the second residue, after N of all


def test_the_projection_is_one_and_leaves_what_is_centred() -> None:
    motion, x = RigidMotion(), body()
    once = motion.project(x)
    assert torch.allclose(to_points(once).nanmean(1), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(motion.project(once).nan_to_num(0), once.nan_to_num(0), atol=1e-5)
    y = body().flip(2).roll(-1, 2)
    y = torch.where(x.isnan(), torch.nan, y.nan_to_num(1.0))
    both = motion.project(2 * x - 3 * y)
    apart = 2 * motion.project(x) - 3 * motion.project(y)
    assert torch.allclose(both.nan_to_num(0), apart.nan_to_num(0), atol=1e-4)


def test_a_moved_body_is_laid_upon_itself_and_takes_the_rest_along() -> None:
    motion, x = RigidMotion(), body()
    turned = to_channels(to_points(x) @ many_rotations(2) + torch.tensor([30.0, -4, 9]), x.shape)
    where = torch.zeros_like(x, dtype=torch.bool)
    where[:, :, :4] = True
    back = motion.align(turned, x, where)
    assert torch.allclose(back.nan_to_num(0), x.nan_to_num(0), atol=1e-4)
    nothing = motion.align(turned, x, torch.zeros_like(where))
    assert torch.equal(nothing.nan_to_num(0), turned.nan_to_num(0))


def test_superposition_never_mirrors() -> None:
    points = torch.randn(5, 9, 3)
    mirrored = points * torch.tensor([1.0, 1.0, -1.0])
    known = torch.ones(5, 9, dtype=torch.bool)
    rotation, own, other = superpose(points, mirrored, known)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(5, dtype=torch.float64))
    moved = (points.double() - own) @ rotation + other
    assert float((moved - mirrored).norm(dim=-1).mean()) > 0.1


def test_no_rotation_brings_points_nearer() -> None:
    points, target = torch.randn(1, 9, 3).double(), torch.randn(1, 9, 3).double()
    known = torch.ones(1, 9, dtype=torch.bool)
    rotation, own, other = superpose(points, target, known)
    best = ((points - own) @ rotation + other - target).square().sum()
    for other_rotation in many_rotations(2000).double():
        turned = (points - own) @ other_rotation + other - target
        assert float(turned.square().sum()) >= float(best) - 1e-9
