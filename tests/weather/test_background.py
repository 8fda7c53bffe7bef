"""Fields of another source: a forecast to improve on, or a coarse state to refine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import ValidationError
from rawdiff_weather.dataset import WeatherDataset
from rawdiff_weather.evaluation import ForecastEvaluator
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.series import Question, Request

LATITUDE, LONGITUDE = np.linspace(75, -75, 6), np.arange(0, 360, 45.0)
TIMES = np.datetime64("2000-01-01", "ns") + np.arange(40) * np.timedelta64(6, "h")
DIMS = ("time", "latitude", "longitude")


def field(latitude, longitude) -> np.ndarray:
    """Linear in latitude, a wave in longitude: of each grid the same function."""
    return latitude[:, None] + 10 * np.cos(np.deg2rad(longitude))[None]


@pytest.fixture
def store(tmp_path) -> Path:
    random = np.random.default_rng(0)
    wind = random.normal(size=(40, 6, 8)).astype(np.float32)
    data = xr.Dataset(
        {"wind": (DIMS, wind, {"units": "m s-1"})},
        coords={"time": TIMES, "latitude": LATITUDE, "longitude": LONGITUDE},
    )
    data.to_zarr(tmp_path / "wind.zarr")
    return tmp_path / "wind.zarr"


@pytest.fixture
def forecast(tmp_path) -> Path:
    """Of another model: from each of the first 30 times, 6 and 12 hours ahead."""
    wind = np.random.default_rng(1).normal(size=(30, 2, 6, 8)).astype(np.float32)
    data = xr.Dataset(
        {"wind": (("time", "prediction_timedelta", *DIMS[1:]), wind, {"units": "m s-1"})},
        coords={
            "time": TIMES[:30],
            "prediction_timedelta": np.array([6, 12]) * np.timedelta64(1, "h").astype("m8[ns]"),
            "latitude": LATITUDE,
            "longitude": LONGITUDE,
        },
    )
    data.to_zarr(tmp_path / "forecast.zarr")
    return tmp_path / "forecast.zarr"


@pytest.fixture
def coarse(tmp_path) -> Path:
    """Every 30 degrees, from south to north, from -180 on."""
    latitude, longitude = np.linspace(-90, 90, 7), np.arange(-180, 180, 30.0)
    state = field(latitude, longitude) + np.arange(40)[:, None, None]
    data = xr.Dataset(
        {"wind": (DIMS, state.astype(np.float32), {"units": "m s-1"})},
        coords={"time": TIMES, "latitude": latitude, "longitude": longitude},
    )
    data.to_zarr(tmp_path / "coarse.zarr")
    return tmp_path / "coarse.zarr"


def values(path: Path) -> np.ndarray:
    return xr.open_zarr(path, chunks=None, decode_timedelta=True).wind.values


def dataset(store: Path, background: Path, **keys) -> WeatherDataset:
    given = {"variables": ("wind",), "background": {"path": str(background)}, **keys}
    return WeatherDataset(path=str(store), **given)


def test_a_residual_is_what_a_forecast_from_the_last_known_state_lacks(store, forecast) -> None:
    data = dataset(store, forecast, target="residual", past=1, lead=(1, 2))
    truth, told = values(store), values(forecast)
    assert len(data) == 30 + 30  # inits of the forecasts, of both leads
    for index, lead in ((7, 1), (30 + 7, 2)):
        sample = data[index]
        assert np.array_equal(
            sample.context[:, None], np.stack([truth[7], told[7, lead - 1]])[:, None]
        )
        assert np.array_equal(sample.x[0], truth[7 + lead] - told[7, lead - 1])


def test_forecasts_add_the_background_again(store, forecast, tmp_path) -> None:
    data = dataset(store, forecast, target="residual", past=1, lead=(1, 2))
    request = Request(("2000-01-03",), num_steps=2, num_members=2)
    data.begin_forecasts(request, tmp_path / "out.zarr", {})
    for rollout in data.forecasts(request, tmp_path / "out.zarr", 2):
        rollout.run(lambda question: torch.full((2, 1, 6, 8), 0.25))
    assert np.array_equal(values(tmp_path / "out.zarr")[0, 0], values(forecast)[8] + 0.25)
    request = Request(("2000-01-03",), num_steps=3, num_members=2)
    with pytest.raises(UserError, match="has nothing for 2000-01-03T18:00 from 2000-01-03T00:00"):
        data.begin_forecasts(request, tmp_path / "far.zarr", {})


def test_a_coarse_state_is_linear_between_its_points_and_around_the_earth(store, coarse) -> None:
    sample = dataset(store, coarse)[3]
    found = sample.context[0] - 3
    assert np.allclose(found.mean(1), LATITUDE, atol=1e-4)  # linear there
    at_grid_points = LONGITUDE % 30 == 0
    expected = field(LATITUDE, LONGITUDE)
    assert np.allclose(found[:, at_grid_points], expected[:, at_grid_points], atol=1e-4)
    wave = (found - found.mean(1, keepdims=True))[0]
    neighbours = 10 * np.cos(np.deg2rad([330, 300])).mean()
    assert wave[7] == pytest.approx(neighbours, abs=1e-4)  # 315 degrees, between 300 and 330
    assert np.array_equal(sample.x[0], values(store)[3])


def test_a_region_across_longitude_0_takes_its_place_in_the_background(store, coarse) -> None:
    data = dataset(store, coarse, region=(-50.0, 50.0, 270.0, 90.0))
    assert data.reader.plan.longitude.tolist() == [270, 315, 0, 45, 90]
    whole = dataset(store, coarse)[0].context[0]
    assert np.allclose(data[0].context[0], whole[1:5][:, [6, 7, 0, 1, 2]], atol=1e-5)


def test_refining_has_one_draw_at_each_time(store, coarse, tmp_path) -> None:
    data = dataset(store, coarse, target="residual")
    request = Request(("2000-01-03", "2000-01-04"), num_steps=None, num_members=3)
    data.begin_forecasts(request, tmp_path / "fine.zarr", {})
    asked: list[Question] = []

    def nothing(question: Question) -> Tensor:
        asked.append(question)
        return torch.zeros(3, 1, 6, 8)

    for rollout in data.forecasts(request, tmp_path / "fine.zarr", 8):
        rollout.run(nothing)
    assert len(asked) == 2
    found = xr.open_zarr(tmp_path / "fine.zarr", chunks=None, decode_timedelta=True)
    assert found.prediction_timedelta.values.tolist() == [0]
    assert np.array_equal(found.wind[0, 2, 0], asked[0].conditions.context[2, 0])


def test_a_single_time_can_be_refined_and_scored(store, coarse, tmp_path) -> None:
    only = dataset(store, coarse, target="residual", time=("2000-01-03T06", "2000-01-03T06"))
    train = dataset(store, coarse, target="residual", time=("2000-01-01", "2000-01-02"))

    def nothing(question: Question) -> Tensor:
        return torch.zeros(2, 1, 6, 8)

    keys = {"num_members": 2, "climatology": False}
    found, num = ForecastEvaluator(**keys).score(nothing, only, train, kept, tmp_path, print)
    assert num == 1
    (key,) = [key for key in found["generated"] if key.startswith("rmse")]
    assert found["generated"][key] == pytest.approx(found["background"][key])


def kept(num: int, make: Callable[[int], dict[str, Tensor]]) -> dict[str, Tensor]:
    parts = [make(number) for number in range(num)]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def test_scores_show_the_background_itself(store, forecast, tmp_path) -> None:
    keys = {"target": "residual", "past": 1}
    train = dataset(store, forecast, **keys)
    held_out = dataset(store, forecast, time=("2000-01-06", "2000-01-07"), **keys)

    def nothing(question: Question) -> Tensor:
        return torch.zeros(2, 1, 6, 8)

    evaluator = ForecastEvaluator(num_members=2, num_steps=1)
    found, _ = evaluator.score(nothing, held_out, train, kept, tmp_path, print)
    key = "rmse/wind/6 hours"
    assert found["generated"][key] == pytest.approx(found["background"][key])
    assert found["persistence"][key] > 0


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"background": None, "target": "residual"}, "set `background`"),
        ({"background": {"variables": ("wnid",)}}, "`background`: .*did you mean one of: `wind`"),
    ],
)
def test_a_background_that_cannot_be_is_refused(store, coarse, keys, words) -> None:
    if keys["background"]:
        keys = {"background": {"path": str(coarse), **keys["background"]}}
    with pytest.raises((UserError, ValidationError), match=words):
        WeatherDataset(path=str(store), variables=("wind",), **keys)[0]


def test_a_background_of_a_smaller_region_is_refused(store, coarse, tmp_path) -> None:
    small = xr.open_zarr(coarse, chunks=None).load().drop_encoding().isel(latitude=slice(2, 6))
    small.to_zarr(tmp_path / "small.zarr")
    with pytest.raises(UserError, match="does not cover the latitudes"):
        dataset(store, tmp_path / "small.zarr")[0]
