"""The toy's truth: a plane among D dimensions, and distances to a spiral on it."""

import pytest
import torch
from bases import noise, setting_of
from rawdiff_toy.curve import Curve
from rawdiff_toy.plane import distance_to_spiral, projection, spiral
from rawdiff_toy.spiral import Spiral
from torch import Tensor

from rawdiff.adapter import GridAdapter
from rawdiff.data.dataset import collate
from rawdiff.errors import UserError
from rawdiff.testing import check_adapter

DIMS = [2, 8, 16, 512]


def points(num_dims: int, num_points: int = 300, **keys: int) -> Tensor:
    """Of the dataset: [n, D, 1], float64."""
    data = Spiral(num_dims=num_dims, num_samples=num_points, **keys)
    return collate(data.get_batch(range(num_points)), range(num_points)).x.double()


def scores(samples: Tensor, reference: Tensor | None = None) -> dict[str, float]:
    reference = samples if reference is None else reference
    return Curve().score(samples, reference, setting_of(samples, patch_size=1))


@pytest.mark.parametrize("num_dims", DIMS)
def test_the_projection_is_column_orthonormal_and_always_the_same(num_dims) -> None:
    q = projection(num_dims)
    assert q.shape == (num_dims, 2)
    assert torch.allclose(q.T @ q, torch.eye(2, dtype=torch.float64), atol=1e-14)
    projection.cache_clear()
    assert torch.equal(q, projection(num_dims))


@pytest.mark.parametrize("num_dims", DIMS)
def test_points_of_the_data_lie_on_the_curve_and_on_the_plane(num_dims) -> None:
    found = scores(points(num_dims))
    assert found["distance"] < 1e-5
    assert found["off_plane"] < 1e-12


@pytest.mark.parametrize("delta", [0.01, 0.1])
def test_a_point_moved_along_the_normal_of_the_line_is_that_far_from_it(delta) -> None:
    u = torch.linspace(0.1, 0.9, 50, dtype=torch.float64, requires_grad=True)
    line = spiral(u)
    tangent = torch.stack([torch.autograd.grad(line[:, i].sum(), u, retain_graph=True)[0]
                           for i in range(2)], dim=1)  # fmt: skip
    normal = torch.stack((-tangent[:, 1], tangent[:, 0]), dim=1)
    moved = line + delta * normal / normal.norm(dim=1, keepdim=True)
    assert torch.allclose(
        distance_to_spiral(moved.detach()), torch.tensor(delta).double(), atol=1e-5
    )


def test_a_point_moved_off_the_plane_is_that_far_from_the_line() -> None:
    x, delta = points(16), 0.3
    q = projection(16)
    away = noise(16).double()
    away = away - q @ (q.T @ away)
    moved = x + delta * (away / away.norm())[:, None]
    energy = x.square().sum(1).mean()
    found = scores(moved)
    assert found["distance"] == pytest.approx(delta, rel=1e-5)
    assert found["off_plane"] == pytest.approx(float(delta**2 / (delta**2 + energy)), rel=1e-5)


@pytest.mark.parametrize("num_dims", DIMS)
def test_noise_has_all_but_two_shares_of_its_energy_off_the_plane(num_dims) -> None:
    found = scores(noise(4000, num_dims, 1))
    assert found["off_plane"] == pytest.approx(1 - 2 / num_dims, abs=0.01)
    assert found["distance"] >= (num_dims - 2) ** 0.5 * 0.95


def test_samples_that_all_stand_on_one_place_of_the_line_leave_a_gap() -> None:
    x = points(16)
    collapsed = scores(torch.zeros_like(x), x)  # the line begins at 0
    assert collapsed["distance"] == 0
    assert collapsed["gap"] == pytest.approx(float(x.norm(dim=1).mean()))
    assert scores(points(16, 2000, seed=1), x)["gap"] < 0.02
    assert scores(x[:100], x[:200])["gap"] == pytest.approx(scores(x[:100], x[100:200])["gap"] / 2)


def test_lengths_on_the_plane_are_the_same_in_all_dimensions() -> None:
    norms = [points(num_dims).norm(dim=(1, 2)) for num_dims in DIMS]
    assert all(torch.allclose(one, norms[0], atol=1e-6) for one in norms)


def test_each_coordinate_of_the_plane_has_a_spread_near_one() -> None:
    """As the noise has: the recipe standardizes nothing."""
    spread = (points(512, 4000)[..., 0] @ projection(512)).square().mean(0).sqrt()
    assert torch.allclose(spread, torch.ones(2).double(), atol=0.15)


def test_a_sample_is_a_function_of_its_number_and_the_seed() -> None:
    data = Spiral(num_dims=8, num_samples=50)
    together = data.get_batch(range(50))
    assert all((together[i].x == data[i].x).all() for i in (0, 17, 49))
    assert not torch.equal(points(8), points(8, seed=1))
    with pytest.raises(IndexError):
        data[50]


def test_a_sample_is_one_patch_of_all_dims() -> None:
    adapter = GridAdapter(patch_size=(1,))
    x = points(16, 5)
    assert adapter.patchify(x).shape == (5, 1, 16)
    assert torch.equal(adapter.unpatchify(adapter.patchify(x), (16, 1)), x)
    check_adapter(adapter, sample_shape=(16, 1))


def test_what_is_no_point_is_refused() -> None:
    with pytest.raises(UserError, match="dataset `spiral`"):
        scores(noise(4, 3, 8, 8))
