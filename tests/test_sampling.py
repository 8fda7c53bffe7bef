"""Sampling through the very denoiser: exact Gaussians, and what the network is given to see."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from rawdiff.adapter import GridAdapter
from rawdiff.conditions import Conditions
from rawdiff.data.dataset import Batch, DataInfo
from rawdiff.data.patcher import Patcher
from rawdiff.data.statistics import Moments, Statistics, measure
from rawdiff.flow.precondition import coefficients
from rawdiff.flow.prediction import VIEWS, expand
from rawdiff.flow.settings import FlowSettings
from rawdiff.flow.solvers import SolverName, num_evaluations
from rawdiff.flow.times import TimesName
from rawdiff.frames import Frames
from rawdiff.grid import PatchGrid
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import Sampler, draw_all

CPU = torch.device("cpu")
MEAN, STD = 3.0, 0.5  # of the data, in their own units
DATA_MEAN, DATA_STD = 2.0, 2.0  # by which they are standardized


def sampler(network, flow=None, *, statistics=None, info=None, shape=(1, 4)) -> Sampler:
    adapter = GridAdapter(patch_size=(2,))
    if statistics is None:
        moments = Moments(torch.full((shape[0],), DATA_MEAN), torch.full((shape[0],), DATA_STD))
        statistics = Statistics(moments, torch.ones(shape, dtype=torch.bool), missing_varies=False)
    patcher = Patcher(adapter, statistics, PatchGrid(adapter.axes(shape, {})))
    info = info or DataInfo(shape=shape, channels=("c",) * shape[0])
    return Sampler(network, patcher, flow or FlowSettings(), info, CPU, "float32")


def exact_network(flow: FlowSettings):
    """The best possible network for data N(MEAN, STD²), whatever it predicts."""
    mean, std = (MEAN - DATA_MEAN) / DATA_STD, STD / DATA_STD

    def network(z: Tensor, t: Tensor, label, **known) -> Tensor:
        t_ = expand(t, z).double()
        noise = flow.noise_scale * (1 - t_)
        variance = (t_ * std) ** 2 + noise**2
        x = mean + t_ * std**2 / variance * (z - t_ * mean)
        eps = (1 - t_) * flow.noise_scale**2 / variance * (z - t_ * mean)
        return {"x": x, "eps": eps, "v": x - eps}[flow.prediction].to(z)

    return network


@pytest.mark.parametrize("prediction", ["x", "eps", "v"])
@pytest.mark.parametrize("noise_scale", [1.0, 2.0])
def test_the_exact_denoiser_gives_mean_and_spread(prediction, noise_scale) -> None:
    flow = FlowSettings(prediction=prediction, noise_scale=noise_scale)
    settings = SampleSettings(num_steps=100, t_eps=1e-4, batch_size=5000)
    drawn = list(draw_all(sampler(exact_network(flow), flow), 20000, Conditions(), settings))
    x = torch.cat(drawn).double()
    assert abs(float(x.mean()) / MEAN - 1) < 0.01
    assert abs(float(x.std()) / STD - 1) < 0.01


@pytest.mark.parametrize("solver", get_args(SolverName))
@pytest.mark.parametrize("times", get_args(TimesName))
def test_every_solver_gives_mean_and_spread_at_all_kinds_of_times(solver, times) -> None:
    """Within what chance leaves of 20,000 values (2 %), and the larger errors of first order."""
    flow, first_order = FlowSettings(noise_scale=2.0), solver in ("euler", "ancestral")
    settings = SampleSettings(solver=solver, times=times, num_steps=200, t_eps=1e-4)
    x = sampler(exact_network(flow), flow).draw(torch.arange(5000), Conditions(), settings)
    assert float(x.mean()) == pytest.approx(MEAN, rel=0.01)
    assert float(x.std()) == pytest.approx(STD, rel=0.12 if first_order else 0.02)


@pytest.mark.parametrize("num_steps", [1, 2, 7])
@pytest.mark.parametrize("solver", get_args(SolverName))
def test_no_solver_calls_the_network_more_often_than_it_says(solver, num_steps) -> None:
    spy = Spy()
    settings = SampleSettings(solver=solver, num_steps=num_steps)
    sampler(spy).draw(torch.arange(2), Conditions(), settings)
    assert len(spy.seen) == num_evaluations(solver, num_steps)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sigma_range": (80, 0.002)}, "sigma_range .* smaller first"),
        ({"sigma_range": (0, 1)}, "sigma_range .* above 0"),
        ({"churn_interval": (0.5, 2)}, r"churn_interval .* within \[0, 1\]"),
        ({"shift": 0}, "shift"),
        ({"times": "cosine"}, "'linear', 'shifted', 'logsnr' or 'edm'"),
    ],
)
def test_settings_that_make_no_sense_are_named(wrong, said) -> None:
    with pytest.raises(ValueError, match=said):
        SampleSettings(**wrong)


def test_more_noise_at_the_start_spreads_samples_as_much() -> None:
    settings = SampleSettings(num_steps=100, t_eps=1e-4, batch_size=5000, noise_scale=1.3)
    flow = FlowSettings()
    drawn = list(draw_all(sampler(exact_network(flow), flow), 20000, Conditions(), settings))
    x = torch.cat(drawn).double()
    assert float(x.mean()) == pytest.approx(MEAN, rel=0.01)
    assert float(x.std()) == pytest.approx(1.3 * STD, rel=0.01)


def test_sampling_has_its_own_bound_on_one_minus_t() -> None:
    """The published bound leaves a known share of the noise in each sample."""
    flow = FlowSettings(t_eps=0.3)
    model = sampler(exact_network(flow), flow)

    def spread(t_eps: float) -> float:
        settings = SampleSettings(num_steps=100, t_eps=t_eps, batch_size=5000)
        return float(torch.cat(list(draw_all(model, 5000, Conditions(), settings))).std())

    assert spread(1e-4) == pytest.approx(STD, rel=0.03)
    assert spread(0.3) != pytest.approx(STD, rel=0.03)


def test_predict_turns_every_prediction_into_x() -> None:
    z, t = torch.randn(3, 1, 4), torch.tensor([0.2, 0.5, 0.8])
    expected = sampler(exact_network(FlowSettings())).predict(z, t, Conditions())
    for prediction in ("eps", "v"):
        flow = FlowSettings(prediction=prediction)
        found = sampler(exact_network(flow), flow).predict(z, t, Conditions())
        assert torch.allclose(found, expected, atol=1e-5), prediction
    assert VIEWS.keys() == {"x", "eps", "v"}


@pytest.mark.parametrize("name", ["linear", "edm"])
def test_a_preconditioned_network_is_read_as_it_was_trained(name) -> None:
    plain, flow = FlowSettings(), FlowSettings(precondition=name)
    exact = exact_network(plain)

    def network(z: Tensor, t: Tensor, label, **known) -> Tensor:
        c_skip, c_out = (expand(c, z) for c in coefficients(t, flow))
        return (exact(z, t, label) - c_skip * z) / c_out

    z, t = torch.randn(3, 1, 4), torch.tensor([0.2, 0.5, 0.8])
    expected = sampler(exact).predict(z, t, Conditions())
    assert torch.allclose(sampler(network, flow).predict(z, t, Conditions()), expected, atol=1e-5)
    settings = SampleSettings(num_steps=5)
    drawn = [
        m.draw(torch.arange(8), Conditions(), settings)
        for m in (sampler(exact), sampler(network, flow))
    ]
    assert torch.allclose(*drawn, atol=1e-4)


class Spy:
    """A network that predicts zeros and remembers what it was given."""

    def __init__(self) -> None:
        self.seen = []

    def __call__(self, z, t, label, **known):
        self.seen.append({"z": z, "t": t, "label": label, **known})
        return torch.zeros_like(z)


def test_guidance_acts_inside_its_interval_alone() -> None:
    spy = Spy()
    model = sampler(spy, info=DataInfo(shape=(1, 4), channels=("c",), class_names=("a", "b")))
    settings = SampleSettings(solver="euler", num_steps=10, cfg_scale=2, cfg_interval=(0.35, 0.75))
    model.draw(torch.arange(3), Conditions(torch.tensor([0, 1, 0])), settings)
    doubled = [round(float(call["t"][0]), 1) for call in spy.seen if len(call["z"]) == 6]
    assert doubled == [0.4, 0.5, 0.6, 0.7]
    assert spy.seen[5]["label"].tolist() == [0, 1, 0, 2, 2, 2]


def test_guidance_across_the_prediction_does_not_move_along_it() -> None:
    """The network takes each sample for a constant by its label: all of guidance lies along it."""

    def network(z: Tensor, t: Tensor, label: Tensor, **known) -> Tensor:
        return torch.tensor([0.5, 0.3])[label][:, None, None].expand(z.shape)

    info = DataInfo(shape=(1, 4), channels=("c",), class_names=("a",))
    for parallel, x in [(1.0, 0.3 + 3 * 0.2), (0.5, 0.5 + 2 * 0.1), (0.0, 0.5)]:
        keys = {"cfg_scale": 3.0, "cfg_interval": (0, 1), "cfg_parallel": parallel}
        settings = SampleSettings(solver="euler", num_steps=10, **keys)
        drawn = sampler(network, info=info).draw(
            torch.arange(2), Conditions(torch.tensor([0, 0])), settings
        )
        assert torch.allclose(drawn, torch.full_like(drawn, DATA_MEAN + DATA_STD * x))


def test_a_weaker_network_pushes_samples_away_from_what_it_does_inside_the_interval() -> None:
    """Both take every sample for a constant, so that the way ends at one."""

    def constant(value: float, seen: list[float]):
        def network(z: Tensor, t: Tensor, label, **known) -> Tensor:
            seen.append(round(float(t[0]), 1))
            return torch.full_like(z, value)

        return network

    calls: list[float] = []
    model = replace(sampler(constant(0.5, [])), guide=constant(0.2, calls))
    keys = {"solver": "euler", "num_steps": 10, "guide_scale": 3.0}
    whole = SampleSettings(**keys, cfg_interval=(0, 1))
    x = model.draw(torch.arange(3), Conditions(), whole)
    assert torch.allclose(x, torch.full_like(x, DATA_MEAN + DATA_STD * (0.2 + 3 * 0.3)))
    calls.clear()
    x = model.draw(torch.arange(3), Conditions(), SampleSettings(**keys, cfg_interval=(0.35, 0.75)))
    assert calls == [0.4, 0.5, 0.6, 0.7]
    assert torch.allclose(x, torch.full_like(x, DATA_MEAN + DATA_STD * 0.5))


def test_missing_values_are_hidden_and_conditions_standardized() -> None:
    x = torch.randn(50, 1, 4)
    x[:, :, :2] = torch.nan  # the first patch is never there
    x[:25, :, 2] = torch.nan
    scalars = 100 + 10 * torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    statistics = measure([Batch(x, torch.arange(50), scalars=scalars)])
    spy = Spy()
    info = DataInfo(shape=(1, 4), channels=("c",), scalar_names=("s",))
    model = sampler(spy, statistics=statistics, info=info)
    drawn = model.draw(
        torch.arange(2), Conditions(scalars=torch.tensor([[110.0], [90.0]])), SampleSettings()
    )
    assert drawn.isnan().tolist() == [[[True, True, False, False]]] * 2
    for call in spy.seen:
        assert not call["z"][:, 0].any()
        assert call["z"][:, 1].all()
        assert call["present"].tolist() == [[False, True]] * 2
        assert call["extra"].tolist() == [[[0, 0], [1, 1]]] * 2
        assert call["scalars"].flatten().tolist() == pytest.approx([1, -1], abs=0.4)
    z = torch.ones(1, 1, 4)
    z[:, :, 3] = torch.nan
    model.predict(z, torch.tensor([0.5]), Conditions())
    assert spy.seen[-1]["extra"].tolist() == [[[1, 1], [1, 0]]]
    assert spy.seen[-1]["z"].tolist() == [[[1, 1], [1, 0]]]


def test_values_that_the_data_cannot_hold_are_clipped() -> None:
    info = DataInfo(shape=(1, 4), channels=("c",), value_range=(1.9, 2.1))
    drawn = sampler(lambda z, t, label, **known: 9 * z, info=info).draw(
        torch.arange(20), Conditions(), SampleSettings(num_steps=3)
    )
    assert float(drawn.min()) == np.float32(1.9)
    assert float(drawn.max()) == np.float32(2.1)


def test_frames_show_the_way_from_the_mean_to_the_sample() -> None:
    flow, kept = FlowSettings(), []
    settings = SampleSettings(num_steps=10, num_frames=5, batch_size=4)
    model = sampler(exact_network(flow), flow)
    drawn = list(
        draw_all(model, 8, Conditions(), settings, keep_frames=lambda *part: kept.append(part))
    )
    assert [first for first, _ in kept] == [0, 4]
    for (_, frames), samples in zip(kept, drawn, strict=True):
        assert frames.shape == (5, 4, 1, 4)
        assert torch.equal(frames[-1], samples)
        assert torch.allclose(frames[0], torch.full_like(frames[0], MEAN), atol=1e-5)
        spreads = frames.std(dim=(1, 2, 3)).tolist()
        assert spreads == sorted(spreads)
    plain = list(draw_all(model, 8, Conditions(), SampleSettings(num_steps=10, batch_size=4)))
    assert torch.equal(torch.cat(drawn), torch.cat(plain))


def test_the_way_shows_what_the_network_sees_beside_what_it_takes_for_the_samples() -> None:
    settings, seen = SampleSettings(num_steps=4, solver="euler"), {}
    model = sampler(lambda z, t, label, **known: torch.full_like(z, 0.25))  # 2.5 in data units
    x = model.draw(
        torch.arange(3),
        Conditions(),
        settings,
        lambda t, look: seen.setdefault(t, (look.z_t(), look.x_pred())),
    )
    eps = seen[0.0][0]
    assert float(eps.std()) > 1
    assert list(seen) == [0.0, 0.25, 0.5, 0.75]
    for t, (z_t, x_pred) in seen.items():
        assert torch.allclose(x_pred, torch.full_like(x, 2.5), atol=1e-5)
        assert torch.allclose(z_t, t * x + (1 - t) * eps, atol=1e-5)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_new_noise_in_each_step_keeps_mean_and_spread_to_first_order(eta) -> None:
    flow, errors = FlowSettings(noise_scale=2.0), []
    for num_steps in (150, 300):
        settings = SampleSettings(
            solver="ancestral", eta=eta, num_steps=num_steps, batch_size=20000
        )
        model = sampler(exact_network(flow), flow)
        x = torch.cat(list(draw_all(model, 20000, Conditions(), settings))).double()
        assert abs(float(x.mean()) / MEAN - 1) < 0.01
        errors.append(abs(float(x.std()) / STD - 1))
    assert errors[1] < 0.04
    assert errors[1] < 0.65 * errors[0]


def test_without_new_noise_the_ancestral_solver_is_euler_s() -> None:
    model = sampler(exact_network(FlowSettings()))
    drawn = [
        model.draw(torch.arange(9), Conditions(), SampleSettings(num_steps=9, **settings))
        for settings in ({"solver": "ancestral", "eta": 0}, {"solver": "euler"})
    ]
    assert torch.allclose(*drawn, atol=1e-5)


def test_each_sample_has_step_noise_of_its_own_whoever_draws_it() -> None:
    model = sampler(lambda z, t, label, **known: torch.zeros_like(z))
    settings = SampleSettings(solver="ancestral", num_steps=5)
    frames = Frames(4, 0.0)
    together = model.draw(torch.arange(4), Conditions(), settings, frames.watch)
    alone = model.draw(torch.arange(2, 3), Conditions(), settings)
    assert torch.equal(together[2:3], alone)
    spy = Spy()
    sampler(spy).draw(torch.arange(2), Conditions(), settings)
    first, second = spy.seen[1]["z"] / (1 - 0.2), spy.seen[2]["z"] / (1 - 0.4)
    assert not torch.allclose(first, second, atol=0.1)
