"""Every layout gives the same fields, to the last bit those of xarray, each chunk decoded once."""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import weather_stores as stores
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Blosc, Shuffle, Zstd
from rawdiff_weather.blocks import Block, cut
from rawdiff_weather.chunks import PlainArray
from rawdiff_weather.inspection import reading_costs
from rawdiff_weather.reading import Reader
from rawdiff_weather.selection import Region, select
from rawdiff_weather.source import open_source
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.storage import LocalStore

from rawdiff.errors import UserError


@pytest.mark.parametrize("layout", stores.LAYOUTS)
def test_every_layout_gives_the_same_fields(tmp_path: Path, layout: str) -> None:
    dataset = stores.known()
    reader = stores.open_reader(stores.LAYOUTS[layout](dataset, tmp_path))
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
    reader = stores.open_reader(
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
    reader = stores.open_reader(stores.forecast(dataset, tmp_path), lead_hours=24)
    np.testing.assert_array_equal(reader.read([3]), stores.fields(dataset)[[3]] + 1)


def test_members_are_read_as_samples_or_one_alone(tmp_path: Path) -> None:
    path, expected = stores.ensemble(stores.known(), tmp_path), stores.fields(stores.known())
    every = stores.open_reader(path)
    assert every.plan.members == (0, 1, 2)
    read = every.read([4, 4, 1, 4], [2, 0, 1, 2])
    for sample, time, member in zip(read, [4, 4, 1, 4], [2, 0, 1, 2], strict=True):
        np.testing.assert_array_equal(sample, expected[time] + member)
    one = stores.open_reader(path, member=2)
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
    reader = Reader(select(source, stores.VARIABLES, static=["orog"]))
    order = [6, 4, 5, 11, 0]
    np.testing.assert_array_equal(reader.read(order), stores.fields(dataset)[order])
    np.testing.assert_array_equal(reader.read_static()[0], dataset.orog)


def test_a_store_behind_a_url_is_read() -> None:
    dataset = stores.known(3)
    dataset.to_zarr("memory://behind/a/url.zarr", zarr_format=2)
    np.testing.assert_array_equal(
        stores.open_reader("memory://behind/a/url.zarr").read([2, 0]),
        stores.fields(dataset)[[2, 0]],
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
        stores.open_reader(str(netcdf), variables=None).read([0, 1])[:, 0], expected
    )
    for version in (2, 3):
        path = folder / f"packed{version}.zarr"
        with xr.open_dataset(netcdf, decode_cf=False) as raw:
            raw.to_zarr(path, zarr_format=version)
        expected = stores.xarray_values(str(path), "v")
        read = stores.open_reader(str(path), variables=None).read([0, 1])
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
    reader = stores.open_reader(path, region=Region(west=-100, east=100))
    reader.read([0])  # opens
    fetched: list[str] = []
    get, load = LocalStore.get, PlainArray.load

    def counted_load(self: PlainArray, key: str) -> Any:
        fetched.append(f"{self.folder}/{key}")
        return load(self, key)

    async def counted(self: ZarrStore, key: str, *args: Any, **kwargs: Any) -> Any:
        fetched.append(key)
        return await get(self, key, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalStore, "get", counted)
    monkeypatch.setattr(PlainArray, "load", counted_load)
    reader.read([8, 0, 7, 1, 8])
    chunks = [key for key in fetched if "/c/" in key]
    assert len(chunks) == len(set(chunks)) > 0


def test_what_one_time_costs_is_counted_from_the_chunks(tmp_path: Path) -> None:
    plan = stores.open_reader(stores.low_resolution(stores.known(16), tmp_path)).plan
    assert [(cost.variable, cost.times_too_much) for cost in reading_costs(plan)] == [
        ("z", 8.0), ("t", 8.0), ("msl", 8.0),
    ]  # fmt: skip
    plan = stores.open_reader(str(tmp_path / "low.zarr"), variables=["t@500"]).plan
    (cost,) = reading_costs(plan)
    assert (cost.times_too_much, cost.used) == (24.0, 5 * 8 * 4)


CODECS: dict[str, tuple[int, dict[str, Any]]] = {
    "lz4": (2, {"compressors": (Blosc("lz4"),)}),
    "blosc": (3, {"compressors": (BloscCodec(cname="zstd", typesize=4),)}),
    "zstd": (3, {"compressors": (ZstdCodec(),)}),
    "old zstd": (2, {"compressors": (Zstd(checksum=True),)}),
    "none": (3, {"compressors": ()}),
    "gzip": (3, {"compressors": (GzipCodec(),)}),
    "filters": (2, {"filters": (Shuffle(4),), "compressors": ()}),
    "shards": (3, {"shards": (2, 3, 5, 8)}),
}


@pytest.mark.parametrize("codec", CODECS)
def test_chunks_are_decoded_straight_or_by_zarr_alike(tmp_path: Path, codec: str) -> None:
    """The last chunks hang over the edge, and one was never written."""
    version, encoding = CODECS[codec]
    dataset = stores.known(5)[["z"]]
    dataset["z"][3] = np.nan
    chunks = (1, 3, 5, 8) if codec == "shards" else (2, 3, 5, 8)
    dataset.to_zarr(
        tmp_path / "z.zarr",
        zarr_format=version,  # type: ignore[call-overload]
        encoding={"z": {"chunks": chunks, **encoding}},
        consolidated=False,
    )
    reader = stores.open_reader(str(tmp_path / "z.zarr"), variables=["z"])
    np.testing.assert_array_equal(reader.read(range(5)), dataset.z.values)
    for i in range(5):
        np.testing.assert_array_equal(reader.read([i])[0], dataset.z.values[i])


@pytest.mark.parametrize(("codec", "straight"), [("zstd", True), ("lz4", True), ("gzip", False)])
def test_whole_chunks_are_decoded_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, straight: bool
) -> None:
    version, encoding = CODECS[codec]
    dataset = stores.known(3)[["z", "msl"]]
    dataset.to_zarr(
        tmp_path / "z.zarr",
        zarr_format=version,  # type: ignore[call-overload]
        encoding={"z": {"chunks": (1, 3, 5, 8), **encoding}, "msl": {"chunks": (1, 5, 8)}},
        consolidated=False,
    )
    reader = stores.open_reader(str(tmp_path / "z.zarr"), variables=["z"])
    copied: list[Any] = []
    place = Block.place

    def counted(self: Block, *args: Any) -> None:
        copied.append(self)
        place(self, *args)

    monkeypatch.setattr(Block, "place", counted)
    np.testing.assert_array_equal(reader.read([2, 0]), dataset.z.values[[2, 0]])
    assert bool(copied) != straight


def test_missing_values_of_a_whole_chunk_are_marked_in_place(tmp_path: Path) -> None:
    dataset = stores.known(3)[["msl"]]
    encoding = {"msl": {"chunks": (1, 5, 8), "_FillValue": np.float32(-9999)}}
    dataset.to_zarr(tmp_path / "m.zarr", encoding=encoding, zarr_format=2)
    raw = xr.open_zarr(tmp_path / "m.zarr", chunks=None, decode_cf=False).msl.values
    assert (raw == -9999).any()
    reader = stores.open_reader(str(tmp_path / "m.zarr"), variables=["msl"])
    np.testing.assert_array_equal(reader.read([1])[0, 0], dataset.msl.values[1])


def test_a_chunk_of_another_size_is_named(tmp_path: Path) -> None:
    """It would fill a part of the field, and leave the rest as it was."""
    reader = stores.open_reader(stores.full_resolution(stores.known(), tmp_path))
    chunk = tmp_path / "full.zarr/z/3.0.0.0"
    chunk.write_bytes(bytes(Blosc().encode(np.zeros(5, np.float32))))
    with pytest.raises(UserError, match=r"`z` cannot be read at its times 3 to 3"):
        reader.read([3])
