"""Zonal spectra of waves and noise, whose power is known."""

import math

import numpy as np
import pytest
import torch
from forecast_cases import CHANNELS, LATITUDES, LONGITUDES, empty_scores, forecasts, scores_of
from rawdiff_weather.area import area_weights
from rawdiff_weather.zonal import ZonalSpectrum


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("num_longitudes", [1, 2, 9, 12])
def test_powers_of_a_circle_sum_to_the_mean_square(num_longitudes: int) -> None:
    """Parseval; a single column is its own circle."""
    spectrum = ZonalSpectrum(np.arange(num_longitudes) * 360 / num_longitudes)
    x = noise(5, num_longitudes) + 3
    if num_longitudes > 1:
        torch.testing.assert_close(spectrum(x).sum(-1), x.square().mean(-1))


@pytest.mark.parametrize("k", [0, 3, 6])
def test_a_wave_has_all_its_power_at_its_wavenumber(k: int) -> None:
    spectrum = ZonalSpectrum(LONGITUDES)
    power = spectrum(torch.from_numpy(np.cos(np.radians(k * LONGITUDES)))[None])[0]
    expected = torch.zeros(7, dtype=torch.float64)
    expected[spectrum.wavenumbers == k] = 1.0 if k in (0, 6) else 0.5
    torch.testing.assert_close(power, expected, atol=1e-12, rtol=0)


def test_a_part_of_the_circle_counts_waves_around_the_earth() -> None:
    longitudes = np.r_[np.arange(300, 360, 2.5), np.arange(0, 60, 2.5)]
    spectrum = ZonalSpectrum(longitudes)
    assert not spectrum.closed
    assert spectrum.wavenumbers[:3].tolist() == pytest.approx([0, 3, 6])
    power = spectrum(torch.from_numpy(np.sin(np.radians(12 * longitudes)))[None])[0]
    assert spectrum.wavenumbers[power.argmax()] == 12
    assert float(power.sum()) == pytest.approx(0.5, rel=0.05)


def test_a_trend_along_a_part_of_the_circle_hides_no_small_scales() -> None:
    power = ZonalSpectrum(np.arange(64.0))(torch.linspace(-50, 50, 64).double()[None])[0]
    assert power[-10:].max() / power[1] < 1e-6


def test_white_noise_has_the_same_power_on_a_circle_and_on_a_part_of_it() -> None:
    x = 3 * noise(20_000, 16)
    for longitudes in (np.arange(0, 360, 22.5), np.arange(16.0)):
        power = ZonalSpectrum(longitudes)(x).mean(0)
        torch.testing.assert_close(
            power[2:-1], torch.full_like(power[2:-1], 18 / 16), rtol=0.05, atol=0
        )


def test_spectra_of_forecasts_are_means_over_members_rows_and_inits() -> None:
    """So that their sums are mean squares, weighted by area: of members, mean and truth."""
    cases = forecasts(5, missing=False)
    rows = [row for row in scores_of(cases).result()["spectra"] if row["region"] == "global"]
    area = area_weights(LATITUDES, len(LONGITUDES))
    members, truth = cases.members.double(), cases.truth.double()
    fields = {"members": members, "mean": members.mean(1, keepdim=True), "truth": truth[:, None]}
    for c, row in enumerate(rows):
        assert row["wavenumbers"] == [0, 1, 2, 3, 4, 5, 6]
        for name, field in fields.items():
            expected = float((field[:, :, c].square() * area).mean())
            assert math.fsum(row[name]) == pytest.approx(expected, rel=1e-12)
    assert math.fsum(rows[0]["mean"][1:]) < math.fsum(rows[0]["members"][1:])


def test_rows_with_a_missing_value_have_no_part_in_spectra() -> None:
    cases = forecasts(2, num_inits=1, missing=False)
    clean = scores_of(cases).result()["spectra"]
    cases.truth[0, 0, 1:3, 4] = torch.nan
    cases.members[0, 1, 0, 5, 2] = torch.nan
    gaps = scores_of(cases).result()["spectra"]
    kept = torch.ones(len(LATITUDES), dtype=torch.bool)
    kept[[1, 2, 5]] = False
    area = area_weights(LATITUDES, 1)[:, 0]
    power = ZonalSpectrum(LONGITUDES)(cases.truth[0, 0].double())
    expected = (power[kept] * area[kept, None]).sum(0) / area[kept].sum()
    assert gaps[0]["truth"] == pytest.approx(expected.tolist())
    at_other_channel = [row for row in clean if row["variable"] == CHANNELS[1]]
    assert [row for row in gaps if row["variable"] == CHANNELS[1]] == at_other_channel


def test_a_region_without_a_whole_row_has_no_spectrum() -> None:
    scores = empty_scores(1)
    truth = torch.zeros(len(CHANNELS), len(LATITUDES), len(LONGITUDES))
    truth[:, :, 0] = torch.nan
    scores.update(6, truth[None], truth)
    assert scores.result()["spectra"] == []
