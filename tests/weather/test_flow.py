"""The small atmosphere obeys its equation, and what it writes is read by name."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rawdiff_weather.flow import OMEGA, RADIUS, Air, Flow, geopotential, wind
from rawdiff_weather.generated import generate, main
from rawdiff_weather.selection import select
from rawdiff_weather.source import open_source
from rawdiff_weather.sphere import Complex, Harmonics

BARE = Air(
    jet=0, stirring=0, mountain_height=0, drag_days=1e12, diffusion_days=1e12, num_steps_a_day=24
)


def random_waves(grid: Harmonics, size: float = 1.0) -> Complex:
    random = np.random.default_rng(0)
    drawn = random.normal(size=(2, 1, len(grid.degree), len(grid.degree)))
    c = (drawn[0] + 1j * drawn[1]) * (grid.degree >= grid.order)
    c[:, 0] = c[:, 0].real
    return size * c


def test_fields_and_coefficients_are_one() -> None:
    grid = Harmonics.gaussian(21, 32, 64)
    c = random_waves(grid)
    np.testing.assert_allclose(grid.coefficients(grid.field(c)), c, atol=1e-12)


def test_the_divergence_of_a_slope_is_the_laplacian() -> None:
    grid = Harmonics.gaussian(21, 32, 64)
    c = random_waves(grid)
    found = grid.divergence(grid.field(grid.along(c)), grid.slope(c))
    np.testing.assert_allclose(found, grid.laplacian() * c, atol=1e-9)


def test_the_slope_is_that_between_latitudes() -> None:
    mu, step = np.linspace(-0.9, 0.9, 7), 1e-6
    c = random_waves(Harmonics.gaussian(5, 8, 16))
    north, south = (Harmonics(5, mu + sign * step, 16).field(c) for sign in (1, -1))
    expected = (north - south) / (2 * step) * (1 - mu**2)[:, None]
    np.testing.assert_allclose(Harmonics(5, mu, 16).slope(c), expected, rtol=1e-6, atol=1e-7)


def test_the_wind_carries_neither_energy_nor_enstrophy_away() -> None:
    flow = Flow(BARE, 0)
    vorticity = random_waves(flow.grid, 1e-6)
    stream, change = flow.grid.inverse_laplacian() * vorticity, flow.tendency(vorticity)
    for other in (stream, vorticity):
        twice = np.where(flow.grid.order > 0, 2, 1)  # |m| and -|m|
        products = twice * (other.conj() * change).real
        assert abs(products.sum()) < 1e-12 * abs(products).sum()


def test_a_wave_of_one_harmonic_moves_west_as_rossby_and_haurwitz_say() -> None:
    """Exact also where it is not small: (Haurwitz 1940), an angular speed of -2Ω / (n (n + 1))."""
    flow = Flow(BARE, 0)
    m, n, num_days = 4, 5, 5
    flow.vorticity[0, m, n] = 2e-5
    before = flow.vorticity[0, m, n]
    for _ in range(num_days * BARE.num_steps_a_day):
        flow.step()
    angle = m * 2 * OMEGA / (n * (n + 1)) * num_days * 86_400
    assert flow.vorticity[0, m, n] == pytest.approx(before * np.exp(1j * angle), rel=1e-5)
    flow.vorticity[0, m, n] = 0
    assert abs(flow.vorticity).max() < 1e-10


def test_geopotential_balances_a_turning_of_the_whole_air() -> None:
    """u = U cos(latitude) is held by Φ = -(Ω a U + U²/2) sin²(latitude), but for a constant."""
    grid, U = Harmonics.gaussian(21, 32, 64), 30.0
    vorticity = grid.coefficients(np.full((1, 32, 64), 2 * U / RADIUS) * grid.mu[:, None])
    u, v = wind(grid, vorticity)
    np.testing.assert_allclose(u, U * (1 - grid.mu**2)[:, None] + np.zeros((1, 32, 64)), atol=1e-9)
    np.testing.assert_allclose(v, 0, atol=1e-9)
    expected = -(OMEGA * RADIUS * U + U**2 / 2) * grid.mu**2
    found = grid.field(geopotential(grid, vorticity))[0, :, 0]
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-6)


def test_weather_settles_and_forgets() -> None:
    """Storms neither blow up nor fade, and a day is much more alike than a month."""
    made = generate(120, hours=24)
    u = made.u_component_of_wind.values
    spreads = [part.std() for part in np.split(u - u.mean(0), 4)]
    assert 3 < min(spreads) < max(spreads) < 15
    assert 20 < u.mean((0, 2)).max() < 50
    apart = [np.sqrt(((u[lag:] - u[:-lag]) ** 2).mean()) for lag in (1, 3, 30)]
    assert all(near < 0.8 * far for near, far in pairwise(apart))


def test_a_generated_store_is_cf_and_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "flow.zarr"
    assert main([str(path), "--days", "3", "--latitudes", "24"]) == 0
    source = open_source(str(path))
    plan = select(source, ["geopotential", "u_component_of_wind"], static=["orography"])
    assert plan.shape == (2, 24, 48)
    assert source.is_global
    assert [channel.units for channel in plan.channels] == ["m**2 s**-2", "m s**-1"]
    assert (len(plan.times), str(plan.times.step)) == (12, "6 hours")
    with xr.open_zarr(path, chunks=None) as dataset:
        assert dataset.u_component_of_wind.attrs["standard_name"] == "eastward_wind"
        assert dataset.attrs["Conventions"] == "CF-1.8"
        assert dataset.orography.max() == pytest.approx(2500, rel=0.1)
        same, other = (generate(3, seed=seed, num_latitudes=24) for seed in (0, 1))
        xr.testing.assert_identical(dataset.load().drop_encoding(), same)
        assert not np.allclose(other.geopotential, same.geopotential, rtol=1e-3)


def test_a_store_that_is_there_is_not_overwritten(tmp_path: Path, capsys) -> None:
    (tmp_path / "data.txt").touch()
    assert main([str(tmp_path), "--days", "1"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([str(tmp_path / "flow.zarr"), "--days", "1", "--hours", "5"]) == 2
    assert "no multiple" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.txt"]
