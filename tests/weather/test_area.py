"""Area weights against truths of the sphere."""

import math

import numpy as np
import pytest
import torch
from rawdiff_weather.area import (
    area_weights,
    is_full_circle,
    land_and_sea,
    latitude_bounds,
    latitude_regions,
)

from rawdiff.errors import UserError

WITH_POLES = np.linspace(90, -90, 13)
WITHOUT_POLES = np.linspace(-87.1875, 87.1875, 32)
GAUSSIAN = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(24)[0]))
GRIDS = [WITH_POLES, WITH_POLES[::-1], WITHOUT_POLES, GAUSSIAN]


@pytest.mark.parametrize("latitudes", GRIDS)
def test_cells_of_a_global_grid_cover_the_sphere_once(latitudes: np.ndarray) -> None:
    sines = latitude_bounds(latitudes).deg2rad().sin()
    assert 2 * math.pi * float(sines.diff().abs().sum()) == pytest.approx(4 * math.pi, abs=1e-12)


@pytest.mark.parametrize("degree", [1, 2, 3, 7])
@pytest.mark.parametrize("latitudes", GRIDS)
def test_cell_means_of_spherical_harmonics_integrate_to_zero(
    latitudes: np.ndarray, degree: int
) -> None:
    """The mean of P_l over a cell has a closed form: ∫ P_l = (P_{l+1} - P_{l-1}) / (2 l + 1)."""
    legendre = [np.polynomial.legendre.Legendre.basis(n) for n in (degree - 1, degree + 1)]
    edges = latitude_bounds(latitudes).deg2rad().sin().numpy()
    integral = (legendre[1](edges) - legendre[0](edges)) / (2 * degree + 1)
    field = torch.from_numpy(np.diff(integral) / np.diff(edges))[:, None].repeat(1, 8)
    assert float((area_weights(latitudes, 8) * field).mean()) == pytest.approx(0, abs=1e-14)


def test_values_at_the_centres_integrate_with_an_error_of_second_order() -> None:
    errors = []
    for num_latitudes in (19, 37, 73):
        latitudes = np.linspace(90, -90, num_latitudes)
        squared_sine = torch.from_numpy(np.sin(np.radians(latitudes)) ** 2)[:, None]
        errors.append(abs(float((area_weights(latitudes, 1) * squared_sine).mean()) - 1 / 3))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("latitudes", [*GRIDS, [50.0, 45.0, 42.5], [10.0]])
def test_weights_have_mean_one_and_turn_with_the_grid(latitudes: np.ndarray) -> None:
    weights = area_weights(latitudes, 3)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-14)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.flip(0), area_weights(latitudes[::-1], 3))


def test_the_row_of_a_pole_has_half_a_cell() -> None:
    """sin 90° - sin(90° - h/2) = 2 sin²(h/4) against 2 cos φ sin(h/2) elsewhere."""
    w = area_weights(WITH_POLES, 1)[:, 0]
    h, phi = math.radians(15), math.radians(60)
    ratio = math.sin(h / 4) ** 2 / (math.cos(phi) * math.sin(h / 2))
    assert float(w[0] / w[2]) == pytest.approx(ratio, rel=1e-12)


def test_the_edge_rows_of_a_region_do_not_reach_to_the_poles() -> None:
    assert latitude_bounds([55, 52.5, 50]).tolist() == [56.25, 53.75, 51.25, 48.75]
    assert latitude_bounds([89, 88, 87]).tolist() == [89.5, 88.5, 87.5, 86.5]


@pytest.mark.parametrize("latitudes", [[], [1, 1], [1, 3, 2], [0, 91], [math.nan, 1]])
def test_latitudes_out_of_order_or_range_are_refused(latitudes: list[float]) -> None:
    with pytest.raises(UserError, match="up or down"):
        latitude_bounds(latitudes)


def test_a_circle_is_told_from_a_region() -> None:
    assert is_full_circle(np.arange(0, 360, 1.5))
    assert is_full_circle(np.arange(-180, 180, 5.625, dtype=np.float32))
    assert is_full_circle(np.r_[np.arange(180, 360, 2), np.arange(0, 180, 2)])
    assert not is_full_circle(np.arange(0, 358, 1.5))
    assert not is_full_circle([0.0])
    assert not is_full_circle([0.0, 90, 180, 300])


def test_tropics_and_extratropics_share_only_the_row_between_them() -> None:
    regions = latitude_regions([60, 20, 0, -20, -60], 2)
    assert regions["tropics"][:, 0].tolist() == [False, True, True, True, False]
    assert regions["northern extratropics"][:, 0].tolist() == [True, True, False, False, False]
    assert regions["southern extratropics"][:, 1].tolist() == [False, False, False, True, True]
    assert regions["global"].all()
    assert set(latitude_regions([50, 40], 2)) == {"global", "northern extratropics"}


def test_land_is_where_a_field_of_the_sea_is_missing() -> None:
    masks = land_and_sea(torch.tensor([[1.0, math.nan]]))
    assert masks["land"].tolist() == [[False, True]]
    assert masks["sea"].tolist() == [[True, False]]
