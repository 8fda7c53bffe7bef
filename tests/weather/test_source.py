"""What a source says of its files, and that every mistake in them is named with its cure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weather_stores as stores
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from rawdiff_weather.axes import closes, order_longitudes, wrap
from rawdiff_weather.selection import Channel, Region, select
from rawdiff_weather.source import open_source
from rawdiff_weather.times import Step

from rawdiff.errors import UserError


def save(path: Path, dataset: xr.Dataset) -> str:
    dataset.to_netcdf(path)
    return str(path)


def test_a_source_says_what_its_files_hold(tmp_path: Path) -> None:
    source = open_source(stores.low_resolution(stores.known(), tmp_path))
    found = {name: (v.levels, v.units, v.is_static) for name, v in source.variables.items()}
    levels = (500.0, 850.0, 1000.0)
    assert found == {
        "z": (levels, "m**2 s**-2", False),
        "t": (levels, "K", False),
        "msl": ((), "Pa", False),
        "orog": ((), "m", True),
    }
    assert source.variables["z"].long_name == "Geopotential"
    assert source.variables["msl"].long_name == "msl"
    assert source.variables["t"].attributes["standard_name"] == "air_temperature"
    assert (source.spacing, source.is_global) == ((45.0, 45.0), True)
    assert (source.times.step, source.times.gaps()) == (Step(6 * 3600), [])


def test_channels_go_by_variable_then_level_as_they_are_written(tmp_path: Path) -> None:
    source = open_source(stores.full_resolution(stores.known(), tmp_path))
    plan = select(source, ["t@1000", "msl", "z", "t@500"], [850, 500], static=["orog"])
    assert plan.channels == (
        Channel("t", 1000.0, "K"),
        Channel("msl", None, "Pa"),
        Channel("z", 850.0, "m**2 s**-2"),
        Channel("z", 500.0, "m**2 s**-2"),
        Channel("t", 500.0, "K"),
    )
    assert [channel.name for channel in plan.static] == ["orog"]
    assert plan.shape == (5, 5, 8)


@given(
    st.integers(3, 40),
    st.integers(-720, 720),
    st.booleans(),
)
def test_longitudes_of_any_range_become_ascending_in_0_to_360(
    number: int, first: int, turned: bool
) -> None:
    stored = first + 360.0 / number * np.arange(number)
    stored = stored[::-1] if turned else stored
    canonical = wrap(stored)[order_longitudes(stored)]
    assert len(canonical) == number
    assert (np.diff(canonical) > 0).all()
    assert 0 <= canonical[0] < 360 / number
    assert closes(canonical)


def test_a_region_over_longitude_0_stays_in_one_piece(tmp_path: Path) -> None:
    dataset = stores.known(2, longitude=(-15, -10, -5, 0, 5, 10))
    source = open_source(save(tmp_path / "europe.nc", dataset))
    assert source.longitude.tolist() == [345, 350, 355, 0, 5, 10]
    assert not source.is_global
    part = select(source, region=Region(west=-10, east=5))
    assert part.longitude.tolist() == [350, 355, 0, 5]
    assert not part.is_global


def test_a_column_that_closes_the_circle_again_is_left_out(tmp_path: Path) -> None:
    dataset = stores.known(2, longitude=(0, 90, 180, 270, 360))
    source = open_source(save(tmp_path / "cyclic.nc", dataset))
    assert source.longitude.tolist() == [0, 90, 180, 270]
    assert source.is_global


def test_a_file_of_one_time_may_say_it_beside_its_fields(tmp_path: Path) -> None:
    """As a GRIB message that was converted does."""
    dataset = stores.known(3)
    for i in (2, 0, 1):
        dataset[["msl"]].isel(time=i).to_netcdf(tmp_path / f"{i}.nc")
    source = open_source(str(tmp_path / "*.nc"))
    np.testing.assert_array_equal(source.times.datetime64, dataset.time)


def test_what_is_no_field_on_the_grid_is_skipped_with_the_reason(tmp_path: Path) -> None:
    dataset = stores.known(2)
    dataset["bands"] = (("time", "latitude", "longitude", "band"), np.zeros((2, 5, 8, 4)))
    dataset["when"] = (dataset.msl.dims, np.zeros(dataset.msl.shape, "datetime64[s]"))
    dataset["bounds"] = (("time", "edge"), np.zeros((2, 2)))
    source = open_source(save(tmp_path / "x.nc", dataset))
    assert (
        source.skipped["bands"]
        == "has the dim `band` (4), which is not known: select one place of it"
    )
    assert list(source.variables) == ["z", "t", "msl", "orog"]
    with pytest.raises(UserError, match="`bands` cannot be used: it has the dim `band`"):
        select(source, ["bands"])


@pytest.mark.parametrize("name", ["hybrid", "height", "z_axis"])
def test_levels_that_are_no_pressure_keep_their_numbers(tmp_path: Path, name: str) -> None:
    dataset = stores.known(2).rename(level=name)
    dataset[name].attrs = {"units": "m", "axis": "Z"} if name == "z_axis" else {}
    source = open_source(save(tmp_path / "x.nc", dataset))
    assert source.variables["z"].levels == (500, 850, 1000)


WRONG_CHOICES: dict[str, tuple[dict[str, Any], str]] = {
    "missing variable": ({"variables": ["mls"]}, "no variable `mls`.* did you mean.*`msl`"),
    "level not there": ({"variables": ["z@700"]}, "`z` has no level 700.* 500, 850, 1000"),
    "level of a surface": ({"variables": ["msl@500"]}, "`msl` has no level 500.* none"),
    "level is text": ({"variables": ["z@top"]}, "after @ is no number"),
    "twice": ({"variables": ["z@500", "z"]}, "`z@500` is chosen twice"),
    "static": ({"variables": ["orog"]}, "`orog` has no time"),
    "not static": ({"static": ["msl"]}, "`msl` changes with time"),
    "no time": ({"start": "2021"}, "no time from 2021.* go from 2020-02-28T00:00"),
    "no date": ({"end": "soon"}, "`soon` is no date"),
    "no step": ({"step": "often"}, "`often` is no time step"),
    "no such day": ({"start": "2020-02-30"}, "`2020-02-30` is no date of the calendar"),
    "empty region": ({"region": Region(1, 2, 3, 4)}, "no grid point in the region"),
    "turned region": ({"region": Region(50, -50)}, "south, 50, lies north of -50"),
    "no member": ({"member": 3}, "no member 3; there are: none"),
    "no lead": ({"lead_hours": 6}, "no lead time of 6 hours; there are: none"),
}


@pytest.mark.parametrize("wrong", WRONG_CHOICES)
def test_wrong_choices_are_named(tmp_path: Path, wrong: str) -> None:
    source = open_source(save(tmp_path / "x.nc", stores.known(4)))
    chosen, message = WRONG_CHOICES[wrong]
    with pytest.raises(UserError, match=message):
        select(source, **chosen)


def test_a_region_over_a_hole_in_the_data_is_named(tmp_path: Path) -> None:
    source = open_source(save(tmp_path / "x.nc", stores.known(2, longitude=(0, 5, 10, 15))))
    with pytest.raises(UserError, match="nothing between 15 and 0"):
        select(source, region=Region(west=10, east=5))


def test_forecasts_need_a_lead_time(tmp_path: Path) -> None:
    source = open_source(stores.forecast(stores.known(), tmp_path))
    assert source.leads == (0, 86400)
    with pytest.raises(UserError, match="lead times 0, 24 hours"):
        select(source)


KNOWN = stores.known(4)


def changed_units(dataset: xr.Dataset) -> xr.Dataset:
    dataset["msl"] = dataset.msl.assign_attrs(units="hPa")
    return dataset


LATER, MARCH = stores.known(4, start="2020-02-29"), stores.known(4, start="2020-03-01")
PAIRS: dict[str, tuple[xr.Dataset, xr.Dataset, str]] = {
    "units": (KNOWN, changed_units(LATER.copy()), "`msl` has the units `Pa` in .* `hPa` in"),
    "overlap": (KNOWN, KNOWN, "times would be there twice"),
    "levels": (KNOWN, LATER.isel(level=[0, 1]), "`z` has the levels .*1000.* in"),
    "grid": (KNOWN, LATER.isel(latitude=slice(1, None)), "grids differ.* 5 latitudes from 90"),
    "shifted grid": (
        KNOWN,
        LATER.assign_coords(longitude=LATER.longitude + 1),
        "grids differ.* 8 longitudes from 0",
    ),
    "variables": (KNOWN, LATER[["z", "t"]], "both have `t`, `z`, but only .*a.nc has `msl`"),
    "calendar": (KNOWN, MARCH.convert_calendar("noleap"), "calendar `proleptic.*`noleap`"),
    "times": (
        KNOWN[["z"]],
        KNOWN[["t"]].isel(time=slice(1, None)),
        "must have the same times.*4 times.*3 times.*not in both: 2020-02-28T00:00",
    ),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_files_that_do_not_fit_together_are_named(tmp_path: Path, pair: str) -> None:
    one, other, message = PAIRS[pair]
    save(tmp_path / "a.nc", one)
    save(tmp_path / "b.nc", other)
    with pytest.raises(UserError, match=message):
        open_source([str(tmp_path / "a.nc"), str(tmp_path / "b.nc")])


CURVED = xr.Dataset(
    {"t": (("time", "y", "x"), np.zeros((2, 3, 4)))},
    {"lat": (("y", "x"), np.zeros((3, 4)), {"units": "degrees_north"}), "time": [0, 1]},
)
WRONG_FILES: dict[str, tuple[Callable[[], xr.Dataset], str]] = {
    "unsorted": (lambda: KNOWN.isel(time=[0, 2, 1]), "not sorted: 2020-02-28T06:00 follows"),
    "duplicate": (lambda: KNOWN.isel(time=[0, 1, 1]), "time 2020-02-28T06:00 twice"),
    "no time": (lambda: KNOWN.isel(time=0, drop=True), "no dim of time"),
    "empty": (lambda: KNOWN.isel(time=[]), "no times"),
    "no grid": (lambda: KNOWN.mean("longitude"), "no variable over dims of latitude"),
    "curved grid": (lambda: CURVED, "`lat` has two dims.*regrid"),
    "no units of time": (
        lambda: KNOWN.assign_coords(time=np.arange(4)),
        "times without units such as",
    ),
    "latitudes are metres": (
        lambda: KNOWN.assign_coords(latitude=np.arange(5) * 1000.0),
        "`latitude` holds 0 to 4000",
    ),
    "a level twice": (lambda: KNOWN.assign_coords(level=[1, 1, 2]), "holds a level twice"),
}


@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_wrong_files_are_named(tmp_path: Path, wrong: str) -> None:
    make, message = WRONG_FILES[wrong]
    with pytest.raises(UserError, match=message):
        open_source(save(tmp_path / "x.nc", make()))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.zarr", "does not exist"),
        ("*.grib", "No file matches"),
        ("", "a folder, but no zarr store"),
        ("x.nc", "neither a zarr store nor a NetCDF file"),
        ("nothing://host/x.zarr", "cannot be reached"),
    ],
)
def test_what_is_no_store_is_named(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "x.nc").write_bytes(b"GRIB and more")
    with pytest.raises(UserError, match=message):
        open_source(path if "://" in path else str(tmp_path / path))


def test_every_pattern_must_match(tmp_path: Path) -> None:
    save(tmp_path / "x.nc", KNOWN)
    with pytest.raises(UserError, match=r"No file matches .*\.zarr"):
        open_source([str(tmp_path / "*.nc"), str(tmp_path / "*.zarr")])
