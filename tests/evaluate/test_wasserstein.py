"""Wasserstein-1 against what is known of shifts, scales and Gaussians."""

import math

import pytest
import scipy.stats
import torch
from bases import noise, setting_of

from rawdiff.evaluate.wasserstein import MAX_VALUES, Wasserstein, wasserstein_1


def test_a_shifted_set_is_as_far_away_as_it_was_shifted() -> None:
    x = noise(50, 2, 8, 8) * torch.tensor([1.0, 4.0]).view(1, 2, 1, 1)
    setting = setting_of(x)
    scores = Wasserstein().score(x + 3, x, setting)
    assert scores["channel0"] == pytest.approx(3, rel=1e-5)
    assert scores["channel1"] == pytest.approx(3, rel=1e-5)
    assert scores[""] == pytest.approx(float((3 / setting.std).mean()), rel=1e-5)


def test_a_set_is_at_distance_zero_of_itself_in_any_order() -> None:
    x = noise(30, 1, 5)
    assert wasserstein_1(x.flip(0), x) == 0


def test_different_numbers_of_values_agree_with_the_exact_distance() -> None:
    a, b = noise(997), noise(613, seed=1) * 2 + 1
    assert wasserstein_1(a, b) == pytest.approx(scipy.stats.wasserstein_distance(a, b), rel=1e-4)


def test_a_set_twice_as_wide_is_the_mean_absolute_value_away() -> None:
    """W_1(x, 2x) = E|x|, which is √(2/π) for a Gaussian; few of very many values are enough."""
    x = noise(2 * MAX_VALUES)
    assert wasserstein_1(2 * x, x) == pytest.approx(math.sqrt(2 / math.pi), rel=2e-3)


def test_missing_values_are_left_out() -> None:
    x = noise(64, 1, 16)
    gaps = torch.cat([x, torch.full_like(x, torch.nan)])
    assert wasserstein_1(gaps + 1, x) == pytest.approx(1, rel=1e-5)


def test_a_channel_without_values_has_no_score() -> None:
    x = noise(20, 2, 6)
    samples = x.clone()
    samples[:, 0] = torch.nan
    assert set(Wasserstein().score(samples, x, setting_of(x))) == {"", "channel1"}
    assert Wasserstein().score(samples[:, :1], x[:, :1], setting_of(x[:, :1])) == {}
