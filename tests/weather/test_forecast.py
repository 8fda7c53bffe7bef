"""Forecasts go step by step into a store that forecasters read, and go on where they stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from rawdiff_weather.dataset import WeatherDataset
from rawdiff_weather.reading import Reader
from rawdiff_weather.rollout import noise_index, stages
from rawdiff_weather.selection import select
from rawdiff_weather.source import open_source
from rawdiff_weather.times import TimeAxis
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.series import Question, Request

LATITUDE = np.linspace(75, -75, 6)
LONGITUDE = np.arange(0, 360, 45.0)
DIMS = ("time", "level", "latitude", "longitude")
REQUEST = Request(("2000-01-03T06", "2000-01-04/2000-01-05/12h"), num_steps=4, num_members=3)


@pytest.fixture
def store(tmp_path) -> Path:
    """Ten days every 6 hours: wind on two levels, temperature at the surface with a hole."""
    random = np.random.default_rng(0)
    times = np.datetime64("2000-01-01", "ns") + np.arange(40) * np.timedelta64(6, "h")
    temperature = random.normal(280, 5, size=(40, 6, 8)).astype(np.float32)
    temperature[:, 1, 2] = np.nan
    wind = random.normal(size=(40, 2, 6, 8)).astype(np.float32)
    named = {"units": "K", "standard_name": "air_temperature", "long_name": "2 m temperature"}
    data = xr.Dataset(
        {
            "wind": (DIMS, wind, {"units": "m s-1"}),
            "temperature": (("time", *DIMS[2:]), temperature, named),
        },
        coords={"time": times, "level": [850, 500], "latitude": LATITUDE, "longitude": LONGITUDE},
    )
    path = tmp_path / "fields.zarr"
    data.to_zarr(path, consolidated=False)
    return path


def dataset(store: Path, **keys) -> WeatherDataset:
    given = {"variables": ("wind", "temperature"), "past": 2, "target": "tendency", **keys}
    return WeatherDataset(path=str(store), **given)


def draw(question: Question) -> Tensor:
    """A model that is none: half of what changed last, and of each number another noise."""
    context = question.conditions.context
    C = context.shape[1] // 2
    noise = [torch.randn(C, 6, 8, generator=torch.Generator().manual_seed(int(i) % 2**31)) for i in
             question.index]  # fmt: skip
    return (context[:, :C] - context[:, C : 2 * C]) / 2 + torch.stack(noise)


def run(data: WeatherDataset, file: Path, batch_size: int = 8, request: Request = REQUEST) -> None:
    data.begin_forecasts(request, file, {"run": "a"})
    for rollout in data.forecasts(request, file, batch_size):
        rollout.run(draw)


def test_each_step_starts_from_the_states_before_it(store, tmp_path) -> None:
    data = dataset(store)
    run(data, tmp_path / "out.zarr")
    found = xr.open_zarr(tmp_path / "out.zarr", chunks=None, decode_timedelta=True)
    truth = xr.open_zarr(store, chunks=None, consolidated=False).sortby("level")
    for init, number in ((np.datetime64("2000-01-03T06", "ns"), 0), (found.time.values[2], 2)):
        axis = TimeAxis(np.array([init.astype("datetime64[s]").astype(int)]))
        past = [truth.sel(time=init - k * np.timedelta64(6, "h")) for k in (0, 1)]
        last, before = (torch.from_numpy(
            np.concatenate([p.wind.values, p.temperature.values[None]])) for p in past
        )  # fmt: skip
        for step in range(1, 5):
            question = Question(
                noise_index(axis, step - 1, range(number, number + 1)),
                type("C", (), {"context": torch.cat([last, before])[None]})(),
            )
            last, before = draw(question)[0] + last, last
            there = found.sel(time=init, number=number).isel(prediction_timedelta=step - 1)
            assert np.array_equal(there.wind.sel(level=[500, 850]), last[:2].numpy())
            assert np.array_equal(there.temperature, last[2].numpy(), equal_nan=True)
            assert there.valid_time.values == init + step * np.timedelta64(6, "h")


def test_weatherbench_finds_the_names_that_it_knows(store, tmp_path) -> None:
    run(dataset(store), tmp_path / "out.zarr")
    found = xr.open_zarr(tmp_path / "out.zarr", chunks=None, decode_timedelta=True)
    assert (tmp_path / "out.zarr" / ".zmetadata").is_file()
    assert found.wind.dims == ("time", "number", "prediction_timedelta", *DIMS[1:])
    assert found.temperature.dims == ("time", "number", "prediction_timedelta", *DIMS[2:])
    assert found.level.values.tolist() == [500, 850]
    assert found.level.attrs["units"] == "hPa"
    assert found.latitude.attrs["standard_name"] == "latitude"
    assert found.prediction_timedelta.values[0] == np.timedelta64(6, "h")
    assert found.time.values[0] == np.datetime64("2000-01-03T06")
    assert found.time.values[-1] == np.datetime64("2000-01-05T12")
    assert found.temperature.attrs["standard_name"] == "air_temperature"
    assert found.temperature.attrs["units"] == "K"
    assert found.attrs["Conventions"] == "CF-1.11"
    own = Reader(select(open_source(str(tmp_path / "out.zarr")), ("temperature",), lead_hours=12))
    there = found.temperature.isel(time=1, number=2, prediction_timedelta=1)
    assert np.array_equal(own.read([1], [2])[0, 0], there, equal_nan=True)


@pytest.mark.parametrize("num_draws", [1, 5, 14])
def test_what_was_stopped_goes_on_to_the_same_bits(store, tmp_path, num_draws) -> None:
    data, whole, stopped = dataset(store), tmp_path / "whole.zarr", tmp_path / "stopped.zarr"
    run(data, whole, batch_size=2)
    data.begin_forecasts(REQUEST, stopped, {"run": "a"})
    left = iter(range(num_draws))

    def draw_and_die(question: Question) -> Tensor:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return draw(question)

    with pytest.raises(KeyboardInterrupt):
        [rollout.run(draw_and_die) for rollout in data.forecasts(REQUEST, stopped, 2)]
    missing = data.forecasts(REQUEST, stopped, 2)
    total = 5 * 4 * 2  # inits, steps, parts of members
    assert sum(rollout.num_draws for rollout in missing) == total - num_draws
    for rollout in missing:
        rollout.run(draw)
    assert not data.forecasts(REQUEST, stopped, 2)
    a, b = (xr.open_zarr(path, chunks=None) for path in (whole, stopped))
    assert a.identical(b)


def test_all_leads_come_from_one_state_and_go_on_from_the_longest() -> None:
    found = stages((1, 2, 4), num_past=1, num_steps=6)
    assert [(s.base, s.lead, s.steps[0]) for s in found] == [
        (0, 1, 1), (0, 2, 2), (0, 4, 4), (4, 1, 5), (4, 2, 6),
    ]  # fmt: skip
    assert [s.hop for s in found] == [0, 0, 0, 1, 1]
    with pytest.raises(UserError, match="must know step 3, which no draw gives"):
        stages((1, 2, 4), num_past=2, num_steps=6)
    assert len(stages((1, 2, 4), num_past=2, num_steps=4)) == 3
    for leads, num_steps, better in (((3,), 2, "3"), ((3,), 4, "3 or 6"), ((1, 2, 4), 3, "2 or 4")):
        with pytest.raises(
            UserError, match=f"no draw ends at step {num_steps}. Ask for {better} st"
        ):
            stages(leads, num_past=1, num_steps=num_steps)


def test_forecasts_go_as_far_as_one_state_or_ten_draws_unless_told(store) -> None:
    def last(*args: object) -> int:
        return stages(*args)[-1].steps[-1]

    assert last((1, 2, 4), 1, None) == 4
    assert last((1,), 2, None) == 10
    assert last((3,), 1, None) == 30
    assert last((3,), 2, None) == 3  # the next draw would know what none gives
    assert last((1,), 2, None, 3) == 30
    with pytest.raises(UserError, match="goes no steps on"):
        stages((1,), 0, 3)


@pytest.mark.parametrize("num_steps", [3, 5])
def test_several_times_of_one_draw_are_written_one_by_one(store, tmp_path, num_steps) -> None:
    keys = {"variables": ("wind",), "past": 2, "num_times": 3, "level_axis": True}
    data = dataset(store, **keys)
    request = Request(("2000-01-03",), num_steps=num_steps, num_members=2)
    asked: list[Question] = []

    def count(question: Question) -> Tensor:
        """Of each draw the times 1, 2, 3 and the levels 0.1, 0.2 more than the last state."""
        asked.append(question)
        last = question.conditions.context[:, :1, :1]
        times, levels = torch.arange(1.0, 4).view(3, 1, 1, 1), torch.tensor([0.1, 0.2])
        return times + levels.view(2, 1, 1) + 0 * last

    data.begin_forecasts(request, tmp_path / "out.zarr", {})
    for rollout in data.forecasts(request, tmp_path / "out.zarr", 2):
        rollout.run(count)
    found = xr.open_zarr(tmp_path / "out.zarr", chunks=None, decode_timedelta=True).wind
    assert found.sizes["prediction_timedelta"] == num_steps
    start = xr.open_zarr(store, chunks=None, consolidated=False).wind.sel(time="2000-01-03T00")
    first = start.sel(level=[500, 850]).values + np.array([0.1, 0.2])[:, None, None]
    assert np.allclose(found[0, 1, :3], first + np.arange(1, 4)[:, None, None, None], atol=1e-5)
    if num_steps > 3:  # starts from the third time of the first draw, knowing the second, too
        again = found[0, 1, 2].values + np.array([0.1, 0.2])[:, None, None]
        assert np.allclose(found[0, 1, 3], again + 1, atol=1e-5)
        assert np.array_equal(asked[1].conditions.context[:, 0, 0], found[0, :, 2])
        assert np.array_equal(asked[1].conditions.context[:, 1, 2], found[0, :, 1])
    assert not data.forecasts(request, tmp_path / "out.zarr", 2)


def test_every_init_hop_and_member_has_noise_of_its_own() -> None:
    axis = TimeAxis(np.array([0, 60, 21_600]), "noleap")
    seen = torch.cat(
        [
            noise_index(axis.take(np.array([i])), hop, members)
            for i in range(3)
            for hop in (0, 1, 65_535)
            for members in (range(2), range(65_534, 65_536))
        ]
    )  # fmt: skip
    assert len(seen.unique()) == len(seen) == 3 * 3 * 4
    assert seen.min() > 0
    with pytest.raises(UserError, match="65,536 members"):
        noise_index(axis.take(np.array([0])), 0, range(65_537))


def test_months_are_calendar_months(tmp_path) -> None:
    times = np.arange("2000-01", "2004-01", dtype="datetime64[M]").astype("datetime64[ns]")
    fields = np.random.default_rng(0).normal(size=(48, 6, 8)).astype(np.float32)
    data = xr.Dataset(
        {"sst": (("time", *DIMS[2:]), fields, {"units": "degC"})},
        coords={"time": times, "latitude": LATITUDE, "longitude": LONGITUDE},
    )
    data.to_zarr(tmp_path / "sst.zarr")
    keys = {"climatology": {"time": ("2000", "2002")}, "lead": (1, 3), "past": 1}
    data = dataset(tmp_path / "sst.zarr", variables=("sst",), target="state", **keys)
    request = Request(("2003-11",), num_steps=3, num_members=2)

    def still(question: Question) -> Tensor:
        assert question.conditions.scalars.shape == (2, 1)
        return torch.zeros(2, 1, 6, 8)  # no anomaly

    data.begin_forecasts(request, tmp_path / "out.zarr", {})
    for rollout in data.forecasts(request, tmp_path / "out.zarr", 2):
        rollout.run(still)
    found = xr.open_zarr(tmp_path / "out.zarr", chunks=None)
    assert found.lead.values.tolist() == [1, 3]
    assert found.valid_time.values[0, 1] == np.datetime64("2004-02-01")
    normal = fields.reshape(4, 12, 6, 8)[:3].mean(0, dtype=np.float64)
    assert np.allclose(found.sst[0, 0, 1], normal[1], atol=1e-6)


def test_a_calendar_without_leap_days_goes_on_to_march(tmp_path) -> None:
    data = xr.Dataset(
        {"wind": (("time", *DIMS[2:]), np.ones((100, 6, 8), np.float32), {"units": "m s-1"})},
        coords={
            "time": xr.date_range("2004-01-01", periods=100, calendar="noleap", use_cftime=True),
            "latitude": LATITUDE,
            "longitude": LONGITUDE,
        },
    )
    data.to_zarr(tmp_path / "noleap.zarr")
    keys = {"variables": ("wind",), "past": 1, "forcings": ("season", "daily_insolation")}
    series = dataset(tmp_path / "noleap.zarr", **keys, target="state")
    request = Request(("2004-02-28",), num_steps=1, num_members=1)
    series.begin_forecasts(request, tmp_path / "out.zarr", {})
    (rollout,) = series.forecasts(request, tmp_path / "out.zarr", 1)
    rollout.run(lambda question: torch.zeros(1, 1, 6, 8))
    found = xr.open_zarr(tmp_path / "out.zarr", chunks=None)
    assert found.valid_time.values[0, 0].strftime() == "2004-03-01 00:00:00"
    assert found.valid_time.values[0, 0].calendar == "noleap"
    with pytest.raises(UserError, match="is no date of the calendar `noleap`"):
        series.begin_forecasts(Request(("2004-02-29",), 1, 1), tmp_path / "b.zarr", {})


@pytest.mark.parametrize(
    ("keys", "request_", "words"),
    [
        ({}, Request(("2010-01-01",), 1, 1), "no data at `2010-01-01`; next to it"),
        ({}, Request(("2000-01-01T00",), 1, 1), "there is none at 1999-12-31T18:00"),
        ({}, Request(("2000-01-07T12",), 1, 1), "there is none at 2000-01-07T06:00"),
        ({}, Request(("2000-01-09T00",), 1, 1), "NaN everywhere"),
        ({"past": 0, "target": "state"}, Request(("2000-01-03",), 1, 1), "starts from no init"),
    ],
)
def test_an_init_that_cannot_be_is_refused_before_anything_is_written(
    store, tmp_path, keys, request_, words
) -> None:
    broken = xr.open_zarr(store, chunks=None, consolidated=False).load().drop_encoding()
    broken = broken.drop_sel(time=np.datetime64("2000-01-07T06", "ns"))
    broken["temperature"].loc[{"time": "2000-01-08T18"}] = np.nan
    broken.to_zarr(tmp_path / "broken.zarr")
    with pytest.raises(UserError, match=words):
        run(dataset(tmp_path / "broken.zarr", **keys), tmp_path / "out.zarr", request=request_)
    assert not (tmp_path / "out.zarr").exists()


def test_a_store_says_whether_all_of_it_is_there(store, tmp_path) -> None:
    data, file = dataset(store), tmp_path / "out.zarr"
    run(data, file)
    assert "unfinished" in xr.open_zarr(file, chunks=None).attrs["status"]
    data.end_forecasts(REQUEST, file)
    assert xr.open_zarr(file, chunks=None).attrs["status"] == "finished"


def test_a_region_across_longitude_0_has_rising_longitudes(store, tmp_path) -> None:
    data = dataset(store, region=(-80.0, 80.0, 270.0, 90.0))
    data.begin_forecasts(REQUEST, tmp_path / "out.zarr", {})
    found = xr.open_zarr(tmp_path / "out.zarr", chunks=None)
    assert found.longitude.values.tolist() == [-90, -45, 0, 45, 90]


def test_members_start_from_the_members_of_the_data_in_turn(store, tmp_path) -> None:
    both = xr.open_zarr(store, chunks=None, consolidated=False).load().drop_encoding()
    both = xr.concat([both, both + 100], dim="number").assign_coords(number=[0, 1])
    both.to_zarr(tmp_path / "members.zarr")
    data = dataset(tmp_path / "members.zarr", variables=("wind",), past=1)
    request = Request(("2000-01-03",), 1, 5)
    data.begin_forecasts(request, tmp_path / "out.zarr", {})
    for rollout in data.forecasts(request, tmp_path / "out.zarr", 3):
        rollout.run(lambda question: torch.zeros(len(question.index), 2, 6, 8))
    found = (
        xr.open_zarr(tmp_path / "out.zarr", chunks=None)
        .wind[0, :, 0]
        .mean(("latitude", "longitude"))
    )
    assert np.allclose(found.round(-2)[:, 0], [0, 100, 0, 100, 0])


def test_other_forecasts_are_never_written_over(store, tmp_path) -> None:
    data, file = dataset(store), tmp_path / "out.zarr"
    run(data, file)
    with pytest.raises(UserError, match=r"something else than this forecast \(other: num_members"):
        data.begin_forecasts(Request(REQUEST.inits, 4, 5), file, {"run": "a"})
    with pytest.raises(UserError, match=r"other: run"):
        data.begin_forecasts(REQUEST, file, {"run": "b"})
    (tmp_path / "notes.zarr").mkdir()
    with pytest.raises(UserError, match="something else"):
        data.begin_forecasts(REQUEST, tmp_path / "notes.zarr", {"run": "a"})
