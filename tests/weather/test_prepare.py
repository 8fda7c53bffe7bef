"""A packed copy holds each state once, and gives the samples of its source to the last bit."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weather_stores as stores
import xarray as xr
from rawdiff_weather import prepare
from rawdiff_weather.dataset import WeatherDataset
from runs import SMALL_MODEL, metrics

from rawdiff.cli.main import main
from rawdiff.data.dataset import Sample
from rawdiff.data.loading import Subset
from rawdiff.data.statistics import measure
from rawdiff.errors import UserError

FRAMED: dict[str, Any] = {
    "variables": ("t@1000", "msl", "z", "t@500"),
    "levels": (850, 500),
    "time": ("2001", "2003"),
    "region": (-50, 50, -100, 60),
    "past": 2,
    "lead": (1, 3),
    "target": "tendency",
    "static": ("orog",),
    "forcings": ("season", "position"),
    "climatology": {"time": ("2000", "2002")},
    "level_weights": "pressure",
}


def quiet(done: int, total: int) -> None:
    """Progress that nobody sees."""


@pytest.fixture
def members(tmp_path: Path) -> str:
    """Five years of monthly fields of three members, latitude upwards, one month missing."""
    dataset = stores.known(60, start="2000-01-01", freq="MS").drop_isel(time=[30])
    parts = [dataset[["z", "t", "msl"]] + i for i in range(3)]
    joined = xr.concat(parts, "number").assign_coords(number=[3, 5, 8])
    for name in ("z", "t", "msl"):
        joined[name].attrs.update(dataset[name].attrs, scale=np.float32(0.1), range=[0, np.nan])
    joined["orog"] = dataset.orog
    return stores.zarr(tmp_path / "m.zarr", joined.isel(latitude=slice(None, None, -1)), time=7)


def assert_same(samples: list[Sample], expected: list[Sample]) -> None:
    for sample, other in zip(samples, expected, strict=True):
        for name in ("x", "context", "scalars", "weight"):
            ours, theirs = getattr(sample, name), getattr(other, name)
            assert (ours is None) == (theirs is None)
            if ours is not None:
                assert ours.dtype == theirs.dtype
                np.testing.assert_array_equal(ours, theirs)


def packed(data: WeatherDataset, root: Path) -> WeatherDataset:
    found = data.packed(root)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "keys", [FRAMED, {"variables": ("msl",)}, {**FRAMED, "member": 5, "step": "2 months"}]
)
def test_a_packed_copy_gives_the_same_samples(members: str, tmp_path: Path, keys: Any) -> None:
    data = WeatherDataset(path=members, **keys)
    assert data.packed(tmp_path) is None
    data.pack(tmp_path, quiet)
    expected, info = data.get_batch(range(len(data))), data.info
    statistics = measure(Subset(data, range(len(data))).batches(5))
    shutil.rmtree(members)
    copy = packed(WeatherDataset(path=members, **keys), tmp_path)
    assert copy.info == info
    assert_same(copy.get_batch(range(len(data))), expected)
    assert_same([copy[len(data) - 1]], expected[-1:])
    again = measure(Subset(copy, range(len(data))).batches(5))
    assert str(again) == str(statistics)


def test_each_state_is_packed_once_for_all_who_frame_it(members: str, tmp_path: Path) -> None:
    train = WeatherDataset(path=members, **FRAMED)
    held_out = train.model_copy(update={"time": ("2003", "2004")})
    folder = train.pack(tmp_path, quiet)
    assert held_out.packed(tmp_path) is None
    assert held_out.pack(tmp_path, quiet) == folder
    num_times, num_members, num_channels, grid = 59, 3, 5, 3 * 4
    expected = 4 * num_times * num_members * num_channels * grid
    assert (folder / "states.bin").stat().st_size == expected
    early = train.model_copy(update={"time": ("2000", "2001")})  # lies behind later years
    assert early.pack(tmp_path, quiet) == folder
    assert (folder / "states.bin").stat().st_size == expected
    reframed = train.model_copy(update={"past": 4, "target": "state"})
    for other in (held_out, train, early, reframed):
        fresh = WeatherDataset(**other.model_dump())
        copy = packed(fresh, tmp_path)
        assert copy.source.paths == (str(folder),)
        assert_same(copy.get_batch(range(50)), fresh.get_batch(range(50)))


def test_interrupted_packing_is_no_copy_and_goes_on(
    members: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "AT_ONCE", 1)
    monkeypatch.setattr(prepare, "BETWEEN_INDICES", 10 * 3 * 4 * 5 * 8)
    data = WeatherDataset(path=members, variables=("msl",))
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        assert total == 59
        seen.append(done)
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.pack(tmp_path, stop)
    assert data.packed(tmp_path) is None
    folder = data.pack(tmp_path, lambda done, total: seen.append(done))
    assert seen == [*range(1, 26), *range(21, 60)]
    assert (folder / "states.bin").stat().st_size == 59 * 3 * 4 * 5 * 8
    assert_same(packed(data, tmp_path).get_batch(range(177)), data.get_batch(range(177)))


def test_a_source_that_changed_is_noticed_and_new_times_are_added(tmp_path: Path) -> None:
    dataset, path = stores.known(9), tmp_path / "grows.nc"
    dataset.isel(time=slice(7)).to_netcdf(path)

    def data() -> WeatherDataset:
        return WeatherDataset(path=str(path), variables=("z",), past=1)

    folder = data().pack(tmp_path, quiet)
    before = (folder / "states.bin").read_bytes()
    path.unlink()  # a file that is open cannot be written
    dataset.to_netcdf(path)
    with pytest.raises(UserError, match=r"packed from 7 times, but its source now has 9"):
        data().packed(tmp_path)
    data().pack(tmp_path, quiet)
    assert (folder / "states.bin").read_bytes()[: len(before)] == before
    assert_same(packed(data(), tmp_path).get_batch(range(8)), data().get_batch(range(8)))
    dataset.z.attrs["units"] = "m"
    path.unlink()
    dataset.to_netcdf(path)
    for use in (data().packed, lambda root: data().pack(root, quiet)):
        with pytest.raises(UserError, match="holds other fields than its source has now"):
            use(tmp_path)
    path.unlink()
    assert len(packed(data(), tmp_path)) == 8
    (folder / "states.bin").write_bytes(before)
    with pytest.raises(UserError, match=r"states\.bin has 3,360 bytes instead of 4,320"):
        packed(data(), tmp_path)[0]


def test_a_calendar_of_its_own_survives(tmp_path: Path) -> None:
    dataset = stores.known(4)[["msl"]]
    dates = xr.date_range("2000-02-29", periods=4, calendar="360_day", use_cftime=True)
    dataset.assign_coords(time=dates).to_netcdf(tmp_path / "model.nc")
    data = WeatherDataset(path=str(tmp_path / "model.nc"), variables=("msl",), past=1)
    data.pack(tmp_path, quiet)
    times = packed(data, tmp_path).reader.plan.times
    assert [times.text(i) for i in range(2)] == ["2000-02-29T00:00", "2000-02-30T00:00"]
    assert times.step == data.reader.plan.times.step


RECIPE = {
    "run_dir": "run",
    "data": {
        "name": "weather",
        "path": "fields.zarr",
        "variables": ["z"],
        "levels": [500],
        "time": ["2020-02-28", "2020-03-05"],
        "past": 2,
    },
    "holdout": {"data": {"time": ["2020-03-06", "2020-03-08"]}},
    "adapter": {"name": "weather", "patch_size": [3, 4]},
    "model": SMALL_MODEL | {"in_context_len": 0},
    "train": {"num_steps": 2, "batch_size": 4, "log_every": 1, "num_workers": 2, "device": "cpu"},
}


def test_a_recipe_reads_what_was_prepared_without_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By worker processes, after their parent has read."""
    monkeypatch.chdir(tmp_path)
    dataset = stores.known(40, latitude=(75, 45, 15, -15, -45, -75)).fillna(0.0)
    path = stores.zarr(tmp_path / "fields.zarr", dataset, time=1)
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    assert main(["train", "recipe.yaml", "run_dir=raw"]) == 0
    assert main(["prepare", "recipe.yaml"]) == 0
    assert "holds 26 samples." in capsys.readouterr().out
    assert len(list((tmp_path / "packed").iterdir())) == 1
    shutil.rmtree(path)
    assert main(["train", "recipe.yaml"]) == 0
    losses = [[line["loss"] for line in metrics(Path(run))] for run in ("raw", "run")]
    assert losses[0] == losses[1]
