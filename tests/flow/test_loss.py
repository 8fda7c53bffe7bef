"""Predictions and losses: identities of the mathematics."""

import pytest
import torch

from rawdiff import philox
from rawdiff.flow import loss as flow_loss
from rawdiff.flow.guidance import acts, guided
from rawdiff.flow.prediction import VIEWS, expand
from rawdiff.flow.settings import FlowSettings
from rawdiff.flow.times import linear

torch.manual_seed(0)
X, EPS = torch.randn(2, 5, 4, 3)
T = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
NOISED = flow_loss.interpolate(X, EPS, T)
TRUTH = {"x": X, "eps": EPS, "v": X - EPS}


@pytest.mark.parametrize("given", ["x", "eps", "v"])
@pytest.mark.parametrize("wanted", ["x", "eps", "v"])
def test_every_view_follows_from_every_other(given, wanted) -> None:
    found = VIEWS[wanted](TRUTH[given], given, NOISED.z_t, T, 0.01)
    assert torch.allclose(found, TRUTH[wanted], atol=1e-5)


@pytest.mark.parametrize("prediction", ["x", "eps", "v"])
@pytest.mark.parametrize("space", ["x", "eps", "v"])
def test_a_perfect_prediction_costs_nothing(prediction, space) -> None:
    t = torch.tensor([0.0, 0.001, 0.5, 0.999, 1.0])  # beyond the bound, too
    error = flow_loss.squared_error(
        TRUTH[prediction],
        flow_loss.interpolate(X, EPS, t),
        FlowSettings(prediction=prediction, loss=space, t_eps=0.05),
    )
    assert float(error.max()) < 1e-9


def test_the_v_loss_is_the_x_loss_over_one_minus_t_squared() -> None:
    guess = torch.randn_like(X)
    v_loss = flow_loss.squared_error(guess, NOISED, FlowSettings(loss="v"))
    x_loss = flow_loss.squared_error(guess, NOISED, FlowSettings(loss="x"))
    assert torch.allclose(v_loss, x_loss / (1 - expand(T, X)).square(), rtol=1e-4)


def test_near_the_data_the_division_is_bounded() -> None:
    late = flow_loss.interpolate(X, EPS, torch.full((5,), 0.999))
    error = flow_loss.squared_error(X + 1, late, FlowSettings(t_eps=0.05))
    assert torch.allclose(error, torch.full_like(error, 400.0), rtol=1e-3)


def test_times_are_logit_normal() -> None:
    t = flow_loss.draw_times(FlowSettings(P_mean=-0.8, P_std=0.5), 0, torch.arange(20000))
    logits = torch.logit(t)
    assert abs(float(logits.mean()) + 0.8) < 0.02
    assert abs(float(logits.std()) - 0.5) < 0.02
    uniform = flow_loss.draw_times(FlowSettings(time="uniform"), 0, torch.arange(20000))
    assert abs(float(uniform.mean()) - 0.5) < 0.01


def test_noise_has_the_scale_asked_for_and_does_not_depend_on_the_batch() -> None:
    x, flow = torch.zeros(64, 10, 30), FlowSettings(noise_scale=4.0)
    whole = flow_loss.add_noise(x, flow, 3, torch.arange(64))
    assert abs(float(whole.eps.std()) - 4) < 0.05
    part = flow_loss.add_noise(x[20:23], flow, 3, torch.arange(20, 23))
    assert torch.equal(part.z_t, whole.z_t[20:23])


def test_labels_are_dropped_as_often_as_asked() -> None:
    label = torch.zeros(20000, dtype=torch.int64)
    dropped = flow_loss.drop_labels(label, 10, FlowSettings(label_drop=0.1), 0, torch.arange(20000))
    assert abs(float((dropped == 10).float().mean()) - 0.1) < 0.01


def test_the_interval_is_open_below_and_compared_in_float32() -> None:
    times = linear(50)
    assert [acts(t, (0.1, 1.0)) for t in times[4:7]] == [False, False, True]
    assert acts(times[0], (0.0, 1.0))
    assert not acts(times[-1], (0.0, 1.0))


def test_guidance_mixes_both_halves_and_skips_one_where_it_does_not_count() -> None:
    sizes = []

    def velocity(z, t, label):
        sizes.append(len(z))
        return label[:, None].float() + 0 * z

    label = torch.tensor([1, 2])
    v = guided(velocity, label, 9, cfg_scale=3.0, cfg_interval=(0.1, 1.0))
    inside = v(torch.zeros(2, 1), torch.tensor(0.5))
    assert inside[:, 0].tolist() == [9 + 3 * (1 - 9), 9 + 3 * (2 - 9)]
    assert v(torch.zeros(2, 1), torch.tensor(0.05))[:, 0].tolist() == [1, 2]
    assert sizes == [4, 2]
    unguided = guided(velocity, label, 9, cfg_scale=1.0, cfg_interval=(0.0, 1.0))
    unguided(torch.zeros(2, 1), torch.tensor(0.5))
    assert sizes[-1] == 2


def test_training_and_sampling_noise_differ() -> None:
    index = torch.arange(3)
    training = philox.normal(0, philox.Stream.NOISE, index, 10)
    assert not (training == philox.normal(0, philox.Stream.SAMPLE_NOISE, index, 10)).any()
