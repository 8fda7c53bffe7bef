"""Power spectra of white noise and of waves, whose truth is known."""

import math

import pytest
import torch
from bases import SHAPES, noise, setting_of

from rawdiff.evaluate.spectrum import Spectrum, radial_spectrum


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES, (1, 1, 12)])
def test_white_noise_is_flat_at_its_variance(shape: tuple[int, ...], periodic: bool) -> None:
    x = 3 * noise(4000, *shape)
    k, power = radial_spectrum(x, setting_of(x, patch_size=1, periodic=periodic))
    assert power.shape == (shape[0], len(k))
    torch.testing.assert_close(power, torch.full_like(power, 9), rtol=0.15, atol=0)


def test_scaled_data_differ_by_the_logarithm_of_the_square() -> None:
    x = noise(20, 2, 16, 16)
    score = Spectrum().score(10 * x, x, setting_of(x))[""]
    assert score == pytest.approx(2, abs=1e-3)


def test_a_set_is_at_distance_zero_of_itself() -> None:
    x = noise(5, 2, 10)
    assert Spectrum().score(x, x, setting_of(x)) == {"": 0.0}


def test_a_periodic_wave_has_all_its_power_at_its_wavenumber() -> None:
    places = torch.arange(32) / 32
    x = torch.stack([torch.cos(2 * math.pi * 5 * places + phase) for phase in range(4)])[:, None]
    k, power = radial_spectrum(x, setting_of(x, periodic=True))
    assert k[power[0].argmax()] == 5 / 32
    assert power[0].max() / power[0].sum() > 1 - 1e-6


def test_a_trend_along_an_open_axis_hides_no_small_scales() -> None:
    """Without a window its jump at the edge would fill the spectrum with k⁻²."""
    trend = torch.linspace(-50, 50, 64).expand(8, 1, 64)
    _, power = radial_spectrum(trend, setting_of(trend))
    assert power[0, -10:].max() / power[0, 0] < 1e-6


def test_smoothed_samples_are_found_by_their_missing_power() -> None:
    x = noise(50, 1, 16, 16)
    smooth = (x + x.roll(1, -1) + x.roll(1, -2) + x.roll((1, 1), (-1, -2))) / 2
    assert Spectrum().score(smooth, x, setting_of(x))[""] > 0.3


def test_constant_samples_have_a_finite_distance() -> None:
    x = noise(10, 1, 8)
    assert 5 < Spectrum().score(torch.zeros_like(x), x, setting_of(x))[""] <= 13


def test_a_single_place_has_no_spectrum() -> None:
    x = noise(10, 1, 1)
    assert Spectrum().score(x, x, setting_of(x, patch_size=1)) == {}
