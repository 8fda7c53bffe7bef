"""Samples are the fields that the files hold, framed as the recipe says."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from pydantic import ValidationError
from rawdiff_weather.dataset import WeatherDataset

from rawdiff.errors import UserError

LATITUDE = np.linspace(-75, 75, 6)
LONGITUDE = np.arange(0, 360, 45.0)


@pytest.fixture
def store(tmp_path) -> Path:
    """Monthly fields of two variables over six years, one of them on two levels, with land."""
    random = np.random.default_rng(0)
    times = np.arange("2000-01", "2006-01", dtype="datetime64[M]").astype("datetime64[ns]")
    sst = random.normal(size=(72, 6, 8)).astype(np.float32)
    sst[:, 2, 3] = np.nan
    dims = ("time", "latitude", "longitude")
    data = xr.Dataset(
        {
            "sst": (dims, sst, {"units": "degC"}),
            "wind": (
                ("time", "level", "latitude", "longitude"),
                random.normal(size=(72, 2, 6, 8)).astype(np.float32),
                {"units": "m s-1"},
            ),
            "height": (dims[1:], random.normal(size=(6, 8)).astype(np.float32), {"units": "m"}),
        },
        coords={"time": times, "level": [500, 850], "latitude": LATITUDE, "longitude": LONGITUDE},
    )
    path = tmp_path / "fields.zarr"
    data.to_zarr(path, consolidated=False)
    return path


def fields(store: Path, name: str) -> np.ndarray:
    return xr.open_zarr(store, chunks=None)[name].values[..., ::-1, :]


def test_a_state_is_that_of_the_file_from_north_to_south(store) -> None:
    data = WeatherDataset(path=str(store), variables=("sst", "wind"), levels=(850.0, 500.0))
    assert len(data) == 72
    assert data.info.channels == ("sst", "wind@850", "wind@500")
    assert data.info.units == ("degC", "m s-1", "m s-1")
    assert data.info.coordinates["latitude"][0] == 75
    expected = np.concatenate([fields(store, "sst")[:, None], fields(store, "wind")[:, ::-1]], 1)
    assert np.array_equal(data[5].x, expected[5], equal_nan=True)
    assert data[5].context is None
    assert data[5].weight.mean() == pytest.approx(1)
    assert data[5].weight[2, 0] > 2 * data[5].weight[0, 0]


def test_variables_and_levels_weigh_as_told_beside_the_area(store) -> None:
    keys = {"path": str(store), "variables": ("sst", "wind")}
    area = WeatherDataset(**keys)[0].weight
    weights = {"variable_weights": {"sst": 0.5, "wind@850": 2}, "level_weights": "pressure"}
    data = WeatherDataset(**keys, **weights)
    assert np.allclose(data[0].weight[0], 0.5 * area)
    assert np.allclose(data[0].weight[1], 500 / 675 * area)
    assert np.allclose(data[0].weight[2], 2 * 850 / 675 * area)
    assert WeatherDataset(**keys, area_weights=False)[0].weight is None
    with pytest.raises(UserError, match="names temperature, which is not predicted"):
        WeatherDataset(**keys, variable_weights={"temperature": 1.0})[0]


def test_past_states_come_newest_first_with_what_else_is_known(store) -> None:
    data = WeatherDataset(
        path=str(store), variables=("wind",), past=2, lead=3, target="tendency",
        static=("height",), forcings=("season", "position", "daily_insolation"),
    )  # fmt: skip
    assert len(data) == 72 - 4
    wind = fields(store, "wind")
    sample = data[10]  # the fields of month 14
    assert np.array_equal(sample.x, wind[14] - wind[11])
    assert np.array_equal(sample.context[:4], np.concatenate([wind[11], wind[10]]))
    assert np.array_equal(sample.context[4], fields(store, "height"))
    assert sample.context.shape[0] == data.info.num_context_channels == 4 + 1 + 3 + 1
    assert np.array_equal(sample.scalars, data[22].scalars)  # a year later
    assert not np.array_equal(sample.scalars, data[11].scalars)


def test_anomalies_are_from_the_training_years_alone(store) -> None:
    years = {"time": ("2000", "2003")}
    keys = {"path": str(store), "variables": ("sst",), "climatology": years, "past": 1}
    held_out = WeatherDataset(**keys, time=("2005", "2005"))
    sst = fields(store, "sst").reshape(6, 12, 6, 8)
    mean = sst[:4].mean(0, dtype=np.float64)
    sample = held_out[3]  # May
    assert np.allclose(sample.x[0], sst[5, 4] - mean[4], atol=1e-6, equal_nan=True)
    assert np.allclose(sample.context[0], sst[5, 3] - mean[3], atol=1e-6, equal_nan=True)
    back = held_out.framing.states(sample.x[None], held_out.reader.plan.times.take(np.array([4])))
    assert np.allclose(back[0, 0], sst[5, 4], atol=1e-6, equal_nan=True)


def test_no_window_crosses_a_gap(store, tmp_path) -> None:
    gappy = tmp_path / "gappy.zarr"
    xr.open_zarr(store, chunks=None).load().drop_encoding().drop_isel(time=[20, 21]).to_zarr(gappy)
    data = WeatherDataset(path=str(gappy), variables=("sst",), past=2)
    times = data.reader.plan.times.datetime64.astype("datetime64[M]").astype(int)
    found = times[np.concatenate([data.windows.predicted, data.windows.known], axis=1)]
    assert (np.diff(found, axis=1) == -1).all()
    assert len(data) == 70 - 2 - 2


def test_one_model_learns_several_leads_and_is_told_which(store) -> None:
    data = WeatherDataset(
        path=str(store), variables=("sst",), past=1, lead=(1, 3), forcings=("season",)
    )
    assert len(data) == 71 + 69
    assert data.info.scalar_names[-1] == "steps ahead"
    sst = fields(store, "sst")[:, None]
    for index, lead, month in ((4, 1, 5), (71 + 4, 3, 7)):
        sample = data[index]
        assert sample.scalars[-1] == lead
        assert np.array_equal(sample.x, sst[month], equal_nan=True)
        assert np.array_equal(sample.context, sst[month - lead], equal_nan=True)


def test_levels_and_times_can_be_axes(store) -> None:
    data = WeatherDataset(
        path=str(store), variables=("wind",), past=1, lead=2, num_times=3, level_axis=True,
        target="tendency", static=("height",), forcings=("daily_insolation",),
        level_weights="pressure",
    )  # fmt: skip
    assert data.info.shape == (1, 3, 2, 6, 8)
    assert data.info.channels == ("wind",)
    assert list(data.info.coordinates) == ["time", "level", "latitude", "longitude"]
    assert len(data) == 72 - 4
    wind = fields(store, "wind")
    sample = data[10]  # known: month 10; predicted: 12, 13, 14
    assert np.array_equal(sample.x[0], wind[12:15] - wind[10])
    assert sample.context.shape == (3, 3, 2, 6, 8)
    assert np.array_equal(sample.context[0], np.stack([wind[10]] * 3))
    assert (sample.context[1] == fields(store, "height")).all()
    assert np.array_equal(sample.context[2, 1, 0], sample.context[2, 1, 1])  # at both levels
    assert not np.array_equal(sample.context[2, 1], sample.context[2, 2])  # another month
    ratio = sample.weight[0, 0, 1] / sample.weight[0, 0, 0]
    assert np.allclose(ratio, 850 / 500)
    with pytest.raises(UserError, match="`sst` has no levels"):
        WeatherDataset(path=str(store), variables=("wind", "sst"), level_axis=True)[0]


def test_dates_may_be_written_as_yaml_reads_them(store) -> None:
    given = yaml.safe_load("time: [2001, 2001-06-15]")
    data = WeatherDataset(path=str(store), variables=("sst",), **given)
    assert data.time == ("2001", "2001-06-15")
    assert len(data) == 6


def test_batches_and_copies_in_other_processes_give_the_same(store) -> None:
    data = WeatherDataset(path=str(store), variables=("wind",), past=3, forcings=("time_of_day",))
    indices = [7, 8, 3, 7]
    together = pickle.loads(pickle.dumps(data)).get_batch(indices)
    for index, sample in zip(indices, together, strict=True):
        alone = data[index]
        assert np.array_equal(alone.x, sample.x)
        assert np.array_equal(alone.context, sample.context)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"variables": ("ssst",)}, "did you mean one of: `sst`"),
        ({"variables": ("wind",), "levels": (400.0,)}, "its levels are: 500, 850"),
        ({"variables": ("sst",), "time": ("2010", "2011")}, "the data go from 2000-01-01T00:00"),
        ({"variables": ("sst",), "past": 80}, "There is no window of 80 states"),
        ({"variables": ("sst",), "static": ("wind",)}, "changes with time"),
        ({"variables": ("sst",), "past": 1, "lead": (3, 1)}, "must be rising"),
        ({"variables": ("sst",), "lead": (1, 3)}, "set `past`"),
        ({"variables": ("sst",), "past": 1, "lead": (1, 3), "num_times": 2}, "not both"),
    ],
)
def test_what_the_files_do_not_have_is_said(store, keys, words) -> None:
    with pytest.raises((UserError, ValidationError), match=words):
        len(WeatherDataset(path=str(store), **keys))


def test_a_shape_stands_for_files_that_are_not_there(store) -> None:
    keys = {
        "variables": ("sst", "wind"), "past": 2, "lead": (1, 3), "static": ("height",),
        "forcings": ("season", "position"), "shape": (3, 6, 8),
    }  # fmt: skip
    here, nowhere = (WeatherDataset(path=str(path), **keys) for path in (store, "nowhere.zarr"))
    for name in ("shape", "scalar_names", "num_context_channels", "writer", "evaluators"):
        assert getattr(nowhere.info, name) == getattr(here.info, name)
    assert nowhere.info.coordinates == here.info.coordinates
    with pytest.raises(UserError, match="does not exist"):
        len(nowhere)


def test_files_of_another_shape_than_the_recipe_says_are_refused(store) -> None:
    data = WeatherDataset(path=str(store), variables=("sst",), shape=(1, 12, 16))
    for look in (lambda: data.info, lambda: len(data)):
        with pytest.raises(UserError, match=r"says 1 channels on 12 .* hold 1 channels on 6"):
            look()
