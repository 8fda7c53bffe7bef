"""The Fréchet distance against its closed form, and against a matrix square root."""

import numpy as np
import pytest
import scipy.linalg
import torch
from bases import noise, setting_of

from rawdiff.errors import UserError
from rawdiff.evaluate.frechet import Frechet, frechet_distance, principal_axes, vectors


def test_two_gaussians_along_the_axes_have_the_closed_form() -> None:
    """Of N(m_i, s_i²) along each axis it is Σ (m_a - m_b)² + (s_a - s_b)²."""
    points = noise(4000, 5).double()
    points = points - points.mean(0)
    points = (
        points @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(points.T))).T
    )  # exactly N(0, 1)
    means, spreads = torch.tensor([1.0, 0, -2, 0, 3]), torch.tensor([1.0, 2, 0.5, 3, 1])
    expected = (means.square() + (spreads - 1).square()).sum()
    measured = frechet_distance(points * spreads + means, points)
    assert measured == pytest.approx(float(expected), rel=1e-9)


def test_correlated_gaussians_agree_with_a_matrix_square_root() -> None:
    a, b = noise(300, 6) @ noise(6, 6, seed=1), noise(200, 6, seed=2) @ noise(6, 6, seed=3) + 0.5
    cov_a, cov_b = np.cov(a.T.double()), np.cov(b.T.double())
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    shift = (a.double().mean(0) - b.double().mean(0)).square().sum()
    expected = float(shift) + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_a_set_is_at_distance_zero_of_itself() -> None:
    x = noise(100, 2, 6, 6)
    assert Frechet().score(x, x, setting_of(x))[""] == pytest.approx(0, abs=1e-6)


def test_a_shift_by_one_standard_deviation_counts_each_value_once() -> None:
    x = noise(200, 1, 10) * 7 + 3
    setting = setting_of(x)
    assert Frechet().score(x + setting.std, x, setting)[""] == pytest.approx(10, rel=1e-4)


def test_axes_are_those_of_the_largest_variance() -> None:
    spreads = 1 / torch.arange(1.0, 201.0)
    x = noise(1000, 200) * spreads
    x -= x.mean(0)
    exact = torch.linalg.svd(x).Vh[:10].T
    kept = (x @ principal_axes(x, 10)).square().sum() / (x @ exact).square().sum()
    assert kept > 0.999


@pytest.mark.parametrize("shape", [(50, 1, 3), (5, 2, 8, 8)])
def test_fewer_values_or_samples_than_components_are_enough(shape: tuple[int, ...]) -> None:
    x = noise(*shape)
    score = Frechet(num_components=64).score(noise(*shape, seed=1), x, setting_of(x))[""]
    assert np.isfinite(score)
    assert score > 0


def test_the_global_random_state_is_left_alone() -> None:
    x = noise(50, 1, 8, 8)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = Frechet().score(x[:20], x, setting_of(x))
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(1)
    assert Frechet().score(x[:20], x, setting_of(x)) == first


def test_a_missing_value_counts_as_the_mean() -> None:
    x = noise(4, 2, 6) + 5
    setting = setting_of(x)
    x[0, 1, 2] = torch.nan
    assert vectors(x, setting)[0, 6 + 2] == 0


def test_a_single_sample_has_no_spread() -> None:
    x = noise(10, 1, 4)
    with pytest.raises(UserError, match="1 samples"):
        Frechet().score(x[:1], x, setting_of(x))
