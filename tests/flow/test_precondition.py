"""Pre-conditioners and the noise of a resolution, against what Gaussian data say of them."""

import pytest
import torch
from pydantic import ValidationError

from rawdiff.flow.precondition import coefficients, precondition
from rawdiff.flow.settings import FlowSettings, auto_noise_scale

T = torch.linspace(0, 1, 21)


@pytest.mark.parametrize("noise_scale", [1.0, 2.0])
def test_edm_skips_the_mean_of_gaussian_data_and_leaves_their_spread_to_the_network(
    noise_scale: float,
) -> None:
    flow = FlowSettings(precondition="edm", sigma_data=0.7, noise_scale=noise_scale)
    c_skip, c_out = coefficients(T, flow)
    # x ~ N(0, 0.7²) and z_t = t x + (1 - t) eps are jointly Gaussian.
    covariance, variance = T * 0.49, (T * 0.7) ** 2 + ((1 - T) * noise_scale) ** 2
    torch.testing.assert_close(c_skip, covariance / variance)
    torch.testing.assert_close(c_out**2, 0.49 - covariance**2 / variance, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["linear", "edm"])
def test_without_noise_the_input_itself_is_the_prediction(name: str) -> None:
    z_t = torch.randn(2, 3, 4)
    flow = FlowSettings(precondition=name)
    x_pred = precondition(torch.randn(2, 3, 4), z_t, torch.ones(2), flow)
    torch.testing.assert_close(x_pred, z_t)


def test_without_a_preconditioner_the_output_is_the_prediction() -> None:
    output = torch.randn(2, 3, 4)
    assert precondition(output, torch.randn(2, 3, 4), torch.rand(2), FlowSettings()) is output


def test_a_preconditioner_belongs_to_x_prediction() -> None:
    with pytest.raises(ValidationError, match="write `prediction: x`"):
        FlowSettings(precondition="linear", prediction="v")


def test_auto_noise_gives_the_published_scales() -> None:
    scales = [auto_noise_scale((side, side)) for side in (64, 128, 256, 512, 1024)]
    assert scales == [0.25, 0.5, 1, 2, 4]


def test_auto_noise_hides_the_same_of_a_scene_at_any_resolution() -> None:
    torch.manual_seed(0)
    for k in (1, 2, 4):
        fine = auto_noise_scale((256 * k, 256 * k)) * torch.randn(4, 256, k, 256, k)
        assert fine.mean((2, 4)).std().item() == pytest.approx(1, abs=0.01)


def test_a_resolved_scale_is_a_number_and_a_given_one_stays() -> None:
    assert FlowSettings(noise_scale="auto").resolved((3, 512, 512)).noise_std == 2
    assert FlowSettings(noise_scale=0.3).resolved((3, 512, 512)).noise_std == 0.3
