"""Spectra on the sphere find the degree of a field, whatever grid it lies on."""

import numpy as np
import pytest
import torch
from rawdiff_weather.area import area_weights
from rawdiff_weather.sphere import Harmonics
from rawdiff_weather.spherical import SphericalSpectrum

GRIDS = {
    "with poles": np.linspace(90, -90, 33),
    "without poles": np.linspace(87.1875, -87.1875, 32),
    "from south": np.linspace(-90, 90, 31),
}
LONGITUDES = np.arange(64) * 360 / 64


def field(latitudes, degree: int, order: int) -> torch.Tensor:
    """A harmonic with a mean square of 1 over the sphere."""
    mu = np.sin(np.deg2rad(latitudes))
    c = np.zeros((1, 16, 16), complex)
    c[0, order, degree] = np.sqrt(2) if order == 0 else 1.0
    return torch.from_numpy(Harmonics(15, mu, 64).field(c)[0])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("degree", "order"), [(0, 0), (3, 2), (7, 0), (14, 14)])
def test_a_harmonic_has_all_its_power_at_its_degree(grid, degree, order) -> None:
    spectrum = SphericalSpectrum(GRIDS[grid], LONGITUDES)
    power = spectrum(field(GRIDS[grid], degree, order))
    expected = torch.zeros(len(spectrum.degrees)).double()
    expected[degree] = 1
    assert torch.allclose(power, expected, atol=1e-9)


def test_powers_sum_to_the_mean_square_of_a_smooth_field() -> None:
    rows = GRIDS["with poles"]
    fields = torch.stack([field(rows, n, m) for n, m in ((2, 1), (5, 5), (9, 3))])
    mixed = (torch.tensor([1.0, -2.0, 0.5]).view(3, 1, 1) * fields).sum(0)
    power = SphericalSpectrum(rows, LONGITUDES)(torch.stack([mixed, 3 * mixed]))
    mean_square = (area_weights(rows.tolist(), 64) * mixed**2).mean()
    assert float(power[0].sum()) == pytest.approx(1 + 4 + 0.25, rel=1e-9)
    assert float(power[0].sum()) == pytest.approx(float(mean_square), rel=0.01)
    assert torch.allclose(power[1], 9 * power[0])


@pytest.mark.parametrize(
    ("latitudes", "longitudes", "fits"),
    [
        (GRIDS["with poles"], LONGITUDES, True),
        (GRIDS["without poles"], LONGITUDES, True),
        (GRIDS["with poles"][3:-3], LONGITUDES, False),  # no poles
        (GRIDS["with poles"][:-2], LONGITUDES, False),  # only one
        (GRIDS["with poles"], LONGITUDES[:50], False),
        (np.linspace(90, -90, 721), LONGITUDES, False),
    ],
)
def test_only_whole_globes_of_few_rows_have_one(latitudes, longitudes, fits) -> None:
    assert SphericalSpectrum.fits(latitudes, longitudes) == fits
