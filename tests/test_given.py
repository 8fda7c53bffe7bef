"""Known values in a sample that is drawn: kept to the bit, laid upon what moves, begun from."""

import numpy as np
import pytest
import torch
from test_sampling import CPU, Spy, exact_network, sampler
from torch import Tensor

from rawdiff.adapter import GridAdapter
from rawdiff.conditions import Conditions, draw_conditions
from rawdiff.data.dataset import DataInfo
from rawdiff.data.geometry import Geometry
from rawdiff.data.patcher import Patcher
from rawdiff.data.statistics import Moments, Statistics
from rawdiff.data.template import Template, Wanted
from rawdiff.errors import UserError
from rawdiff.flow.settings import FlowSettings
from rawdiff.grid import PatchGrid
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import Sampler

INDEX = torch.arange(3)
INFO = DataInfo(shape=(1, 4), channels=("c",), sizes_vary=True, place_names=("a",))


class Asks(Template):
    """Wants all values, the first of them kept."""

    wrong: bool = False

    def wanted(self, index, info, real) -> Wanted:
        x = np.full(info.shape, np.nan, dtype=np.float32)
        x[:, 0] = index
        place = np.zeros((1, 3 if self.wrong else 4), dtype=np.float32)
        return Wanted(x, ~np.isnan(x), np.ones(info.shape, dtype=bool), place)


class Centred(Geometry):
    """Numbers with mean 0, which may all be moved by one number."""

    def project(self, x: Tensor) -> Tensor:
        return x - x.nanmean((1, 2), keepdim=True)

    def align(self, x: Tensor, target: Tensor, where: Tensor) -> Tensor:
        shift = torch.where(where, target - x, torch.nan).nanmean((1, 2), keepdim=True)
        return x + shift.nan_to_num(0.0)


def centred_sampler(network, *, mean=0.0, stds=(2.0,)) -> Sampler:
    adapter = GridAdapter(patch_size=(2,))
    shape = (len(stds), 4)
    moments = Moments(torch.full((shape[0],), mean), torch.tensor(stds))
    statistics = Statistics(moments, torch.ones(shape, dtype=torch.bool), missing_varies=False)
    patcher = Patcher(adapter, statistics, PatchGrid(adapter.axes(shape, {})), geometry=Centred())
    info = DataInfo(shape=shape, channels=("c",) * shape[0])
    return Sampler(network, patcher, FlowSettings(), info, CPU, "float32")


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("cfg_scale", [1.0, 3.0])
def test_what_is_kept_comes_out_to_the_bit_and_the_rest_is_drawn(solver, cfg_scale) -> None:
    flow = FlowSettings()
    x = torch.full((3, 1, 4), torch.nan)
    x[:, :, 1] = torch.tensor([[0.1], [7.7], [-3.3]])
    info = DataInfo(shape=(1, 4), channels=("c",), class_names=("a", "b"))
    model = sampler(exact_network(flow), flow, info=info)
    settings = SampleSettings(solver=solver, cfg_scale=cfg_scale)
    label = torch.tensor([0, 1, 0])
    drawn = model.draw(INDEX, Conditions(label, x=x, keep=~x.isnan()), settings)
    free = model.draw(INDEX, Conditions(label), settings)
    assert torch.equal(drawn[:, :, 1], x[:, :, 1])
    others = [0, 2, 3]
    assert torch.allclose(drawn[:, :, others], free[:, :, others], atol=1e-5)


def test_the_network_sees_what_is_kept_with_less_and_less_noise() -> None:
    spy = Spy()
    x = torch.full((3, 1, 4), torch.nan)
    x[:, :, 0] = 8.0  # 3 when standardized
    settings = SampleSettings(solver="euler", num_steps=10)
    sampler(spy).draw(INDEX, Conditions(x=x, keep=~x.isnan()), settings)
    eps = spy.seen[0]["z"][:, 0, 0]
    for call in spy.seen:
        t = float(call["t"][0])
        assert torch.allclose(call["z"][:, 0, 0], t * 3.0 + (1 - t) * eps, atol=1e-5)


def test_a_sample_begins_from_a_template_at_its_time() -> None:
    spy = Spy()
    x = torch.randn(3, 1, 4)
    settings = SampleSettings(solver="euler", num_steps=4, start=0.9, template=Asks())
    sampler(spy).draw(INDEX, Conditions(x=x), settings)
    assert spy.seen[0]["t"].tolist() == pytest.approx([0.9] * 3)
    noise_free = 0.9 * (x - 2) / 2
    first = spy.seen[0]["z"].reshape(3, 1, 4)
    assert float((first - noise_free).std()) == pytest.approx(0.1, rel=0.5)


@pytest.mark.parametrize("times", ["shifted", "logsnr", "edm"])
def test_all_kinds_of_times_begin_at_the_start(times) -> None:
    spy = Spy()
    settings = SampleSettings(num_steps=4, start=0.9, template=Asks(), times=times)
    sampler(spy).draw(INDEX, Conditions(x=torch.randn(3, 1, 4)), settings)
    seen = [float(call["t"][0]) for call in spy.seen]
    assert seen[0] == pytest.approx(0.9)
    assert seen == sorted(seen)


def test_beginning_from_what_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs a `template`"):
        SampleSettings(start=0.5)
    settings = SampleSettings(start=0.5, template=Asks())
    with pytest.raises(UserError, match="none are given"):
        sampler(Spy()).draw(INDEX, Conditions(), settings)
    x = torch.full((3, 1, 4), torch.nan)
    with pytest.raises(UserError, match=r"100\.0% of the values are unknown"):
        sampler(Spy()).draw(INDEX, Conditions(x=x), settings)
    with pytest.raises(UserError, match="kept that it does not give"):
        sampler(Spy()).draw(INDEX, Conditions(x=x, keep=x.isnan()), SampleSettings())


def test_noise_and_samples_lie_in_the_subspace_of_the_data() -> None:
    spy = Spy()

    def drifting(z, t, label, **known):
        spy(z, t, label, **known)
        return z + 1.0

    drawn = centred_sampler(drifting).draw(INDEX, Conditions(), SampleSettings(num_steps=5))
    for call in spy.seen:
        assert torch.allclose(call["z"].mean((1, 2)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(drawn.mean((1, 2)), torch.zeros(3), atol=1e-5)


def test_kept_values_lie_where_they_were_however_the_sample_moves() -> None:
    x = torch.full((3, 1, 4), torch.nan)
    x[:, 0, :2] = torch.tensor([100.0, 103.0])
    model = centred_sampler(lambda z, t, label, **known: 0.5 * z)
    drawn = model.draw(INDEX, Conditions(x=x, keep=~x.isnan()), SampleSettings())
    assert torch.equal(drawn[:, 0, :2], x[:, 0, :2])
    assert bool((drawn - 101.5).abs().max() < 20)  # the rest came along


def test_a_geometry_refuses_channels_of_different_scale() -> None:
    for changes in ({"mean": 1.0}, {"stds": (1.0, 2.0)}):
        with pytest.raises(UserError, match="mode: fixed, mean: 0, std: "):
            centred_sampler(Spy(), **changes)


def test_samples_have_the_values_that_are_wanted() -> None:
    moments = Moments(torch.zeros(1), torch.ones(1))
    statistics = Statistics(moments, torch.ones(1, 4, dtype=torch.bool), missing_varies=True)
    spy = Spy()
    there = torch.tensor([[[True, True, True, False]], [[True, False, False, False]]])
    model = sampler(spy, statistics=statistics, info=INFO)
    drawn = model.draw(torch.arange(2), Conditions(there=there), SampleSettings(num_steps=2))
    assert torch.equal(drawn.isnan(), ~there)
    assert spy.seen[0]["present"].tolist() == [[True, True], [True, False]]


def test_a_template_that_does_not_fit_is_an_error() -> None:
    def real():
        raise AssertionError("no real data are needed")

    conditions = draw_conditions(INFO, 5, None, real, slice(2, 4), template=Asks())
    assert conditions.x[:, 0, 0].tolist() == [2.0, 3.0]
    with pytest.raises(UserError, match=r"`place` has shape \(1, 3\) instead of \(1, 4\)"):
        draw_conditions(INFO, 5, None, real, template=Asks(wrong=True))
    more = DataInfo(shape=(1, 4), channels=("c",), num_context_channels=1)
    with pytest.raises(UserError, match="says nothing of `context`"):
        draw_conditions(more, 5, None, real, template=Silent())


class Silent(Template):
    def wanted(self, index, info, real) -> Wanted:
        return Wanted()


def test_labels_for_a_model_without_classes_are_an_error() -> None:
    info = DataInfo(shape=(1, 4), channels=("c",))

    def real():
        raise AssertionError("no real data are needed")

    assert draw_conditions(info, 2, None, real).label is None
    with pytest.raises(UserError, match="trained without labels"):
        draw_conditions(info, 2, (0,), real)
