"""Each warning is earned by a number, and silent without it."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from rawdiff.assemble import info_without_data
from rawdiff.built_in import built_in_recipes
from rawdiff.data.dataset import DataInfo
from rawdiff.data.statistics import Moments, Statistics, fixed
from rawdiff.errors import UserError
from rawdiff.flow.settings import FlowSettings
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import load_recipe
from rawdiff.warn.averages import average, relative_width, tuned_average
from rawdiff.warn.data import noise_scale, spread
from rawdiff.warn.loss import loss_shares, one_bin, share_of_times
from rawdiff.warn.samples import Seams, growing_seams, memorization, seams


def info(*sizes: int, **more) -> DataInfo:
    return DataInfo((1, *sizes), ("ink",), **more)


def given(mean: float, std: float, measured: tuple[float, float] | None) -> Statistics:
    own = measured and Moments(*(torch.tensor([value]) for value in measured))
    return replace(fixed(mean, std, (1, 4, 4)), measured=own)


@pytest.mark.parametrize(
    ("measured", "shown"),
    [((0.0, 900.0), "0 ± 9"), ((0.0, 10.0), "0 ± 0.1"), ((600.0, 100.0), "6 ± 1")],
)
def test_data_far_from_unit_spread_are_warned_of(measured, shown) -> None:
    concern = spread(given(0, 100, measured), info(4, 4))
    assert f"ink {shown}" in concern.found
    assert "standardization" in concern.cure


@pytest.mark.parametrize("measured", [(0.0, 50.0), (-40.0, 30.0), None])
def test_data_near_unit_spread_or_not_measured_are_not_warned_of(measured) -> None:
    assert spread(given(0, 100, measured), info(4, 4)) is None


def test_one_narrow_channel_beside_others_is_not_warned_of() -> None:
    measured = Moments(torch.zeros(2), torch.tensor([1.0, 0.01]))
    both = replace(fixed(0, 1, (2, 4, 4)), measured=measured)
    assert spread(both, DataInfo((2, 4, 4), ("C", "P"))) is None


def test_noise_that_does_not_fit_the_size_is_warned_of() -> None:
    assert "takes 4" in noise_scale(FlowSettings(noise_scale=1), info(1024, 1024)).found
    assert "9 times" in noise_scale(FlowSettings(noise_scale=9), info(64, 64)).found
    for scale, side in ((1, 256), (2, 512), (4, 64), ("auto", 1024)):
        assert noise_scale(FlowSettings(noise_scale=scale), info(side, side)) is None
    with_context = info(1024, 1024, num_context_channels=2)
    assert noise_scale(FlowSettings(noise_scale=1), with_context) is None


def recipe(**ema: float) -> Recipe:
    return load_recipe("demo", [f"train.ema=[{json.dumps(ema)}]"])


def test_an_average_that_does_not_fit_the_run_is_warned_of() -> None:
    assert "36.8% of it are still the first weights" in average(recipe(decay=0.999), 1000).found
    assert "too long" in average(recipe(power=0.27), 1000).found
    assert "50 times the run of 20 steps" in average(recipe(decay=0.999), 20).found
    assert "too short" in average(recipe(decay=0.9), 100_000).found
    for ema in ({"decay": 0.99}, {"power": 0.1}):
        assert average(recipe(**ema), 1000) is None


def test_a_decay_looks_back_over_the_spread_of_its_weights() -> None:
    ema = recipe(decay=0.99).train.ema[0]
    ages = torch.arange(100_000, dtype=torch.float64)
    weights = 0.01 * 0.99**ages
    std = float(((weights * ages**2).sum() - (weights * ages).sum() ** 2).sqrt())
    assert relative_width(ema, 1000) == pytest.approx(std / 1000, rel=0.01)


def test_the_best_average_at_the_end_of_those_tried_is_warned_of() -> None:
    def rows(*names: str) -> list[dict[str, str]]:
        return [{"weights": name, "frechet": f"{i + 1}"} for i, name in enumerate(names)]

    longest = tuned_average(rows("power_0.15", "power_0.1", "model"), "frechet", 1000)
    assert "too short" in longest.found
    assert "frechet 1, against 2 with power_0.1" in longest.found
    shortest = tuned_average(rows("model", "power_0.1", "decay_0.99"), "frechet", 1000)
    assert "too long" in shortest.found
    middle = rows("power_0.1", "power_0.05", "power_0.15")
    assert tuned_average(middle, "frechet", 1000) is None
    assert tuned_average(rows("power_0.1"), "frechet", 1000) is None
    assert tuned_average([{"cfg_scale": "1", "frechet": "2"}], "frechet", 1000) is None


def test_shares_of_times_are_those_of_drawn_times() -> None:
    flow = FlowSettings(P_mean=0.4, P_std=1.1)
    t = torch.sigmoid(0.4 + 1.1 * torch.randn(200_000, generator=torch.Generator().manual_seed(0)))
    names = [f"{i / 5}-{(i + 1) / 5}" for i in range(5)]
    assert sum(share_of_times(flow, name) for name in names) == pytest.approx(1)
    for i, name in enumerate(names):
        drawn = float(((t >= i / 5) & (t < (i + 1) / 5)).double().mean())
        assert share_of_times(flow, name) == pytest.approx(drawn, abs=0.005)


def lines(*errors: float, num: int = 40, batch: int = 100) -> list[dict[str, float]]:
    names = [f"loss/t_{i / 5}-{(i + 1) / 5}" for i in range(5)]
    return [
        {"step": step, "samples": step * batch, **dict(zip(names, errors, strict=True))}
        for step in range(1, num + 1)
    ]


def test_a_loss_that_is_all_in_one_noise_level_is_warned_of() -> None:
    uniform = FlowSettings(time="uniform")
    concern = one_bin(lines(1, 1, 1, 1, 36), uniform, 40)
    assert "90% of the loss come from times t in 0.8-1.0, where 20% of the samples" in concern.found
    assert one_bin(lines(1, 1, 1, 1, 4), uniform, 40) is None
    assert one_bin(lines(1, 1, 1, 1, 36), uniform, 1000) is None  # still its beginning
    assert one_bin(lines(1, 1, 1, 1, 36, batch=1), uniform, 40) is None  # too few samples
    narrow = FlowSettings(P_mean=0, P_std=0.1)
    assert "P_std" in one_bin(lines(1, 1, 1, 1, 1), narrow, 40).cure


def test_the_loss_is_shared_by_errors_and_by_how_often_times_are_drawn() -> None:
    flow = FlowSettings()
    shares = loss_shares(lines(1, 1, 1, 1, 1), flow)
    assert shares == {name: pytest.approx(share_of_times(flow, name)) for name in shares}
    assert loss_shares([], flow) == {}


def test_seams_are_warned_of_beside_real_data() -> None:
    assert "1.5" in seams(1.5, 1.1).found
    assert seams(1.2, 1.1) is None
    assert seams(1.5, 1.5) is None  # real data have them, too


def test_seams_that_grow_while_training_are_warned_of() -> None:
    course = [Seams(100, 1.3, 1.0), Seams(200, 1.1, 1.0), Seams(300, 1.4, 1.0)]
    assert "1.4 times those of real data at step 300, 1.1 times at step 200" in (
        growing_seams(course).found
    )
    assert growing_seams(course[:2]) is None
    assert growing_seams(course[:1]) is None
    assert growing_seams([Seams(1, 3.0, 1.0), Seams(2, 1.3, 1.0)]) is None  # they go


def test_samples_that_are_training_data_are_warned_of() -> None:
    assert "30.0% of the samples are copies" in memorization(0.3, 0.3, 0.3, 0.0).found
    assert "0.1 from the nearest" in memorization(0.1, 0.3, 0.0, 0.0).found
    assert memorization(0.29, 0.3, 0.01, 0.0) is None
    assert memorization(0.1, 0.1, 0.5, 0.5) is None  # real data are as near to one another


@pytest.mark.parametrize("name", sorted(built_in_recipes()))
def test_recipes_that_come_with_us_are_not_warned_of(name) -> None:
    found = load_recipe(name, [])
    assert average(found, found.train.num_steps) is None
    with suppress(UserError):  # its shape is in data that are not here
        assert noise_scale(found.flow, info_without_data(found)) is None
