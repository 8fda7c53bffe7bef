"""Every layout gives the same fields, to the last bit those of xarray, each chunk decoded once."""

import asyncio
import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import weather_stores as stores
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from rawdiff_weather.blocks import cut
from rawdiff_weather.inspection import empty_fields, reading_costs
from rawdiff_weather.reading import Reader
from rawdiff_weather.selection import Region, select
from rawdiff_weather.source import open_source
from rawdiff_weather.times import Step
from torch.utils.data import DataLoader
from zarr.abc.store import Store as ZarrStore
from zarr.storage import LocalStore

from rawdiff.errors import UserError

VARIABLES = ("z", "t", "msl")


def open_reader(path: str, **chosen: Any) -> Reader:
    source = open_source(path)
    if source.leads:
        chosen.setdefault("lead_hours", 0)
    return Reader(select(source, chosen.pop("variables", VARIABLES), **chosen))


@pytest.mark.parametrize("layout", stores.LAYOUTS)
def test_every_layout_gives_the_same_fields(tmp_path: Path, layout: str) -> None:
    dataset = stores.known()
    reader = open_reader(stores.LAYOUTS[layout](dataset, tmp_path))
    plan = reader.plan
    assert [channel.name for channel in plan.channels] == [
        "z@500", "z@850", "z@1000", "t@500", "t@850", "t@1000", "msl",
    ]  # fmt: skip
    np.testing.assert_array_equal(plan.latitude, dataset.latitude)
    np.testing.assert_array_equal(plan.longitude, dataset.longitude)
    np.testing.assert_array_equal(plan.times.datetime64, dataset.time)
    assert plan.is_global
    read = reader.read(range(10))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, stores.fields(dataset))
    order = [7, 2, 2, 9, 0]
    np.testing.assert_array_equal(reader.read(order), stores.fields(dataset)[order])


@pytest.mark.parametrize("layout", ["low_resolution", "copernicus", "climate_model", "nameless"])
def test_a_choice_gives_what_xarray_selects(tmp_path: Path, layout: str) -> None:
    dataset = stores.known(latitude=(80, 60, 20, -20, -60, -80))
    reader = open_reader(
        stores.LAYOUTS[layout](dataset, tmp_path),
        variables=["t@1000", "msl", "t@500"],
        static=["orog"],
        start="2020-02-28T12",
        end="2020-02-29",
        step="12h",
        region=Region(south=-60, north=25, west=-95, east=45),
    )
    around = {"latitude": [20, -20, -60], "longitude": [270, 315, 0, 45]}
    part = dataset.sel(time=slice("2020-02-28T12", "2020-02-29"), **around).isel(time=[0, 2])
    expected = [part.t.sel(level=1000), part.msl, part.t.sel(level=500)]
    assert reader.plan.longitude.tolist() == around["longitude"]
    np.testing.assert_array_equal(reader.read([0, 1]), np.stack(expected, axis=1))
    np.testing.assert_array_equal(reader.read_static(), part.orog.values[None])


def test_a_lead_time_is_chosen_by_its_hours(tmp_path: Path) -> None:
    dataset = stores.known()
    reader = open_reader(stores.forecast(dataset, tmp_path), lead_hours=24)
    np.testing.assert_array_equal(reader.read([3]), stores.fields(dataset)[[3]] + 1)


def test_members_are_read_as_samples_or_one_alone(tmp_path: Path) -> None:
    path, expected = stores.ensemble(stores.known(), tmp_path), stores.fields(stores.known())
    every = open_reader(path)
    assert every.plan.members == (0, 1, 2)
    read = every.read([4, 4, 1, 4], [2, 0, 1, 2])
    for sample, time, member in zip(read, [4, 4, 1, 4], [2, 0, 1, 2], strict=True):
        np.testing.assert_array_equal(sample, expected[time] + member)
    one = open_reader(path, member=2)
    assert one.plan.members == (2,)
    np.testing.assert_array_equal(one.read([5]), expected[[5]] + 2)


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    """In turned order, with grids the other way up, beside a store with more variables."""
    dataset = stores.known(12)
    first, second = dataset.isel(time=slice(0, 5)), dataset.isel(time=slice(5, None))
    fields = dataset[["t", "msl"]]
    second[["z"]].to_netcdf(tmp_path / "a.nc")
    first[["z"]].isel(latitude=slice(None, None, -1)).to_netcdf(tmp_path / "b.nc")
    stores.zarr(tmp_path / "c.zarr", fields, time=5)
    dataset[["orog"]].to_netcdf(tmp_path / "still.nc")
    source = open_source(
        [str(tmp_path / "[ab].nc"), str(tmp_path / "c.zarr"), str(tmp_path / "still.nc")]
    )
    reader = Reader(select(source, VARIABLES, static=["orog"]))
    order = [6, 4, 5, 11, 0]
    np.testing.assert_array_equal(reader.read(order), stores.fields(dataset)[order])
    np.testing.assert_array_equal(reader.read_static()[0], dataset.orog)


def test_a_store_behind_a_url_is_read() -> None:
    dataset = stores.known(3)
    dataset.to_zarr("memory://behind/a/url.zarr", zarr_format=2)
    np.testing.assert_array_equal(
        open_reader("memory://behind/a/url.zarr").read([2, 0]), stores.fields(dataset)[[2, 0]]
    )


@pytest.mark.filterwarnings("ignore")  # of several missing values, which is the point
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_packed_values_are_those_of_xarray_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """For any dtype, scale, offset and missing value, in both kinds of files."""
    dtype = np.dtype(data.draw(st.sampled_from(["i1", "i2", "u1", "i4", "f4", "f8", ">f4", ">i2"])))
    real = dtype.kind == "f"
    number = st.floats(-1e3, 1e3, width=32) if real else st.integers(0, 100)
    values = np.array(data.draw(st.lists(number, min_size=12, max_size=12)), dtype)
    attributes: dict[str, Any] = {}
    factor = st.sampled_from([np.float32, np.float64])
    for name in ("scale_factor", "add_offset"):
        if data.draw(st.booleans()):
            attributes[name] = data.draw(factor)(data.draw(st.floats(1e-3, 1e3)))
    for name in ("_FillValue", "missing_value"):
        if data.draw(st.booleans()):
            attributes[name] = data.draw(st.sampled_from([*values[:3]]))
    folder = tmp_path_factory.mktemp("packed")
    netcdf = folder / "packed.nc"
    with netCDF4.Dataset(netcdf, "w") as file:
        sizes = {"time": 2, "latitude": 2, "longitude": 3}
        units = {
            "time": "hours since 2000-01-01",
            "latitude": "degrees_north",
            "longitude": "degrees_east",
        }
        for name, size in sizes.items():
            file.createDimension(name, size)
            coordinate = file.createVariable(name, "f8", (name,))
            coordinate.units = units[name]
            coordinate[:] = np.arange(size)[:: -1 if name == "latitude" else 1]
        fill = attributes.pop("_FillValue", None)
        endian: Any = "big" if dtype.byteorder == ">" else "native"
        variable = file.createVariable("v", dtype, tuple(sizes), fill_value=fill, endian=endian)
        variable.set_auto_maskandscale(False)
        variable.setncatts(attributes)
        variable[:] = values.reshape(2, 2, 3)
    expected = stores.xarray_values(str(netcdf), "v")
    np.testing.assert_array_equal(
        open_reader(str(netcdf), variables=None).read([0, 1])[:, 0], expected
    )
    for version in (2, 3):
        path = folder / f"packed{version}.zarr"
        with xr.open_dataset(netcdf, decode_cf=False) as raw:
            raw.to_zarr(path, zarr_format=version)
        expected = stores.xarray_values(str(path), "v")
        read = open_reader(str(path), variables=None).read([0, 1])
        np.testing.assert_array_equal(read[:, 0], expected)


@given(
    stored=st.lists(st.integers(0, 30), min_size=1, max_size=30),
    chunk=st.integers(1, 12),
)
def test_parts_copy_every_index_once_and_meet_every_chunk_once(
    stored: list[int], chunk: int
) -> None:
    values, copied = np.arange(100), np.full(len(stored), -1)
    parts = list(cut(np.array(stored), np.arange(len(stored)), chunk))
    for part in parts:
        assert part.start // chunk == (part.stop - 1) // chunk
        for run in part.runs:
            copied[run.placed] = values[part.start : part.stop][run.stored]
    assert copied.tolist() == stored
    assert len({part.start // chunk for part in parts}) == len(parts)


def test_every_stored_chunk_is_fetched_once_in_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stores.nameless(stores.known(), tmp_path)
    reader = open_reader(path, region=Region(west=-100, east=100))
    reader.read([0])  # opens
    fetched: list[str] = []
    get = LocalStore.get

    async def counted(self: ZarrStore, key: str, *args: Any, **kwargs: Any) -> Any:
        fetched.append(key)
        return await get(self, key, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalStore, "get", counted)
    reader.read([8, 0, 7, 1, 8])
    chunks = [key for key in fetched if "/c/" in key]
    assert len(chunks) == len(set(chunks)) > 0


class Samples:
    """A torch data set over a reader."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader.plan.times)

    def __getitem__(self, index: int) -> Any:
        return self.reader.read([index])[0]


@pytest.mark.parametrize("layout", ["low_resolution", "copernicus"])
def test_forked_workers_read_after_their_parent_has_read(tmp_path: Path, layout: str) -> None:
    dataset = stores.known()
    reader = open_reader(stores.LAYOUTS[layout](dataset, tmp_path))
    reader.read([0])
    loader: Any = DataLoader(
        Samples(reader),
        batch_size=None,
        num_workers=2,
        multiprocessing_context="fork",
        timeout=60,  # type: ignore[arg-type]
    )
    np.testing.assert_array_equal(np.stack([x.numpy() for x in loader]), stores.fields(dataset))


def read_all(reader: Reader) -> stores.Fields:
    return reader.read(range(len(reader.plan.times)))


def test_a_spawned_process_opens_its_own_files(tmp_path: Path) -> None:
    dataset = stores.known()
    reader = open_reader(stores.low_resolution(dataset, tmp_path))
    reader.read([0])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        read = pool.apply_async(read_all, (reader,)).get(timeout=120)
    np.testing.assert_array_equal(read, stores.fields(dataset))


def test_files_of_another_process_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    dataset, really_open = stores.known(), netCDF4.Dataset
    reader = open_reader(stores.copernicus(dataset, tmp_path))

    def counted(path: str) -> netCDF4.Dataset:
        opened.append(path)
        return really_open(path)

    monkeypatch.setattr(netCDF4, "Dataset", counted)
    reader.read([0])
    reader.read([1])
    assert len(opened) == 1
    forked = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: forked)
    np.testing.assert_array_equal(reader.read([1]), stores.fields(dataset)[[1]])
    assert len(opened) == 2


def test_each_file_is_opened_once_in_a_call_and_few_stay_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rawdiff_weather.reading.MAX_OPEN_FILES", 2)
    dataset = stores.known(6)
    for i in range(6):
        dataset.isel(time=[i]).to_netcdf(tmp_path / f"{i}.nc")
    reader = open_reader(str(tmp_path / "*.nc"))
    opened: list[netCDF4.Dataset] = []
    really_open = netCDF4.Dataset

    def kept(path: str) -> netCDF4.Dataset:
        opened.append(really_open(path))
        return opened[-1]

    monkeypatch.setattr(netCDF4, "Dataset", kept)
    np.testing.assert_array_equal(reader.read(range(6)), stores.fields(dataset))
    assert [file.isopen() for file in opened] == [False] * 4 + [True] * 2


def test_a_store_that_was_away_is_read_when_it_is_back(tmp_path: Path) -> None:
    dataset = stores.known()
    path = Path(stores.full_resolution(dataset, tmp_path))
    reader = open_reader(str(path))
    path.rename(tmp_path / "away")
    with pytest.raises(UserError, match="cannot be read"):
        reader.read([3])
    (tmp_path / "away").rename(path)
    np.testing.assert_array_equal(reader.read([3]), stores.fields(dataset)[[3]])


def test_a_notebook_whose_event_loop_runs_may_read(tmp_path: Path) -> None:
    dataset = stores.known()
    reader = open_reader(stores.full_resolution(dataset, tmp_path))

    async def cell() -> stores.Fields:
        return reader.read([3])

    np.testing.assert_array_equal(asyncio.run(cell()), stores.fields(dataset)[[3]])


def test_an_open_reader_is_small_when_it_travels(tmp_path: Path) -> None:
    reader = open_reader(stores.copernicus(stores.known(), tmp_path))
    reader.read([0])
    assert len(pickle.dumps(reader)) < 10_000


@pytest.mark.parametrize("layout", ["full_resolution", "low_resolution", "nameless"])
def test_a_chunk_that_is_cut_off_is_named(tmp_path: Path, layout: str) -> None:
    path = stores.LAYOUTS[layout](stores.known(), tmp_path)
    reader = open_reader(path)
    chunk = max(
        file
        for file in Path(path, "t").rglob("*")
        if file.is_file() and "json" not in file.name and not file.name.startswith(".")
    )
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    with pytest.raises(UserError, match=r"`t` cannot be read at its times .* cut off"):
        reader.read(range(10))


FORMATS: tuple[Any, ...] = ("NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF3_64BIT_DATA")


@pytest.mark.parametrize("unlimited", ["", "time"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_netcdf_file_that_is_cut_off_anywhere_is_named(
    tmp_path: Path, form: Any, unlimited: str
) -> None:
    """The library itself reads zeros there, in the classic formats."""
    path = tmp_path / "cut.nc"
    dataset = stores.known(3)
    dataset["flag"] = dataset.msl.isel(longitude=slice(3)).fillna(1).astype("i2")  # is padded
    along = [unlimited] if unlimited else []
    dataset.to_netcdf(path, engine="netcdf4", format=form, unlimited_dims=along)
    whole = path.read_bytes()
    np.testing.assert_array_equal(open_reader(str(path)).read([2]), stores.fields(dataset)[2:])
    for length in (len(whole) - 8, len(whole) - 1000, len(whole) // 2, 200, 6):
        cut_off = tmp_path / f"{length}.nc"
        cut_off.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut off|cannot be (opened|read)"):
            open_reader(str(cut_off)).read([0, 1, 2])


def test_a_chunk_that_was_never_written_is_missing(tmp_path: Path) -> None:
    path = stores.full_resolution(stores.known(), tmp_path)
    reader = open_reader(path)
    Path(path, "msl", "4.0.0").unlink()
    assert np.isnan(reader.read([4])[0, -1]).all()
    assert [tuple(field) for field in empty_fields(reader, range(10))] == [(4, "msl")]


def test_what_one_time_costs_is_counted_from_the_chunks(tmp_path: Path) -> None:
    plan = open_reader(stores.low_resolution(stores.known(16), tmp_path)).plan
    assert [(cost.variable, cost.times_too_much) for cost in reading_costs(plan)] == [
        ("z", 8.0), ("t", 8.0), ("msl", 8.0),
    ]  # fmt: skip
    plan = open_reader(str(tmp_path / "low.zarr"), variables=["t@500"]).plan
    (cost,) = reading_costs(plan)
    assert (cost.times_too_much, cost.used) == (24.0, 5 * 8 * 4)


REAL = {
    "cobe_sst_monthly_2deg.nc": (600, Step(1, "months"), 0),
    "ersst_v5_monthly_2deg.nc": (108, Step(1, "months"), 0),
    "era5_ensemble_global_3deg.nc": (3, Step(12 * 3600), 0),
    "era5_hourly_20levels_0p25.nc": (19, Step(3600), 0),
    "era_interim_europe_daily.nc": (3408, Step(86400), 0),
    "gfs_wind10m_1deg.nc": (79, Step(3 * 3600), 22),
    "nmc_storm_1996_6var.nc": (50, Step(6 * 3600), 0),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_as_xarray_reads_them(shared: Path, name: str) -> None:
    path = str(shared / "data" / "weather" / name)
    reader = open_reader(path, variables=None)
    plan = reader.plan
    assert (len(plan.times), plan.times.step, len(plan.times.gaps())) == REAL[name]
    some = sorted({0, len(plan.times) // 2, len(plan.times) - 1})
    read = reader.read(some)
    with xr.open_dataset(path) as raw:
        roles = {"lat": "latitude", "lon": "longitude", "isobaricInhPa": "level"}
        dataset = raw.rename({old: new for old, new in roles.items() if old in raw.dims})
        dataset = dataset.assign_coords(longitude=dataset.longitude % 360)
        dataset = dataset.sel(latitude=plan.latitude, longitude=plan.longitude).isel(time=some)
        dataset = dataset.isel(number=0) if "number" in dataset.dims else dataset
        for place, channel in enumerate(plan.channels):
            field = dataset[channel.variable]
            field = field if channel.level is None else field.sel(level=channel.level)
            field = field.transpose("time", "latitude", "longitude")
            np.testing.assert_array_equal(read[:, place], field.values.astype(np.float32))


def test_real_land_and_lost_fields_are_missing(shared: Path) -> None:
    folder = shared / "data" / "weather"
    sea = open_reader(str(folder / "ersst_v5_monthly_2deg.nc"), variables=None)
    assert np.isnan(sea.read(range(108))).sum() == 543_456
    storm = open_reader(str(folder / "nmc_storm_1996_6var.nc"), variables=None)
    lost = [
        (storm.plan.times.text(f.time)[5:13], f.channel) for f in empty_fields(storm, range(50))
    ]
    assert lost == [
        ("01-09T06", "t"), ("01-09T06", "v"), ("01-14T00", "v500"), ("01-14T06", "v"),
    ]  # fmt: skip


def test_real_members_differ(shared: Path) -> None:
    path = shared / "data" / "weather" / "era5_ensemble_global_3deg.nc"
    reader = open_reader(str(path), variables=["z@500"])
    assert reader.plan.members == tuple(range(10))
    read = reader.read([1] * 10, range(10))
    with xr.open_dataset(path) as dataset:
        expected = dataset.z.sel(isobaricInhPa=500).isel(time=1).values
    np.testing.assert_array_equal(read[:, 0], expected)
