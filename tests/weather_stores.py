"""One known field, written in the layouts that are found in the world."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from rawdiff_weather.reading import Reader
from rawdiff_weather.selection import select
from rawdiff_weather.source import open_source

Fields = npt.NDArray[np.float32]

LEVELS = (500, 850, 1000)
START = "2020-02-28"
VARIABLES = ("z", "t", "msl")


def known(
    num_times: int = 10,
    *,
    latitude: Sequence[float] = (90, 45, 0, -45, -90),
    longitude: Sequence[float] = tuple(np.arange(0, 360, 45.0)),
    levels: Sequence[float] = LEVELS,
    start: str = START,
    freq: str = "6h",
) -> xr.Dataset:
    """Canonical: z and t by level, msl at the surface, orography without time; some are NaN."""
    random = np.random.default_rng(0)
    shape = (num_times, len(levels), len(latitude), len(longitude))

    def draw(*shape: int) -> Fields:
        field = random.normal(280, 20, shape).astype(np.float32)
        field[random.random(shape) < 0.05] = np.nan
        return field

    dims = ("time", "level", "latitude", "longitude")
    return xr.Dataset(
        {
            "z": (dims, draw(*shape), {"units": "m**2 s**-2", "long_name": "Geopotential"}),
            "t": (dims, draw(*shape), {"units": "K", "standard_name": "air_temperature"}),
            "msl": (dims[:1] + dims[2:], draw(shape[0], *shape[2:]), {"units": "Pa"}),
            "orog": (dims[2:], draw(*shape[2:]), {"units": "m"}),
        },
        coords={
            "time": pd.date_range(start, periods=num_times, freq=freq),
            "level": ("level", np.array(levels), {"units": "hPa"}),
            "latitude": ("latitude", np.array(latitude, dtype=float), {"units": "degrees_north"}),
            "longitude": ("longitude", np.array(longitude, dtype=float), {"units": "degrees_east"}),
        },
    )


def fields(dataset: xr.Dataset) -> Fields:
    """[T, C, latitude, longitude] of z, t at all levels and msl, as `known` has them."""
    parts = [dataset["z"].values, dataset["t"].values, dataset["msl"].values[:, None]]
    return np.concatenate(parts, axis=1)


Layout = Callable[[xr.Dataset, Path], str]


def zarr(path: Path, dataset: xr.Dataset, version: int = 2, **chunks: int) -> str:
    """Written with the chunks that are given by dim; whole along the others."""
    encoding = {
        str(name): {"chunks": tuple(min(chunks.get(str(d), n), n) for d, n in v.sizes.items())}
        for name, v in dataset.data_vars.items()
    }
    dataset.to_zarr(path, zarr_format=version, encoding=encoding, consolidated=version == 2)  # type: ignore[call-overload]
    return str(path)


def low_resolution(dataset: xr.Dataset, folder: Path) -> str:
    """WeatherBench 2 at 64x32 and 240x121: longitude first, latitude up, 8 times a chunk."""
    turned = dataset.isel(latitude=slice(None, None, -1))
    turned = turned.transpose(..., "level", "longitude", "latitude")
    return zarr(folder / "low.zarr", turned, time=8)


def full_resolution(dataset: xr.Dataset, folder: Path) -> str:
    """WeatherBench 2 ERA5 at 0.25 degrees: latitude down, one time a chunk, all levels in it."""
    return zarr(folder / "full.zarr", dataset, time=1)


def analysis(dataset: xr.Dataset, folder: Path) -> str:
    """WeatherBench 2 hres_t0: latitude up."""
    return zarr(folder / "hres.zarr", dataset.isel(latitude=slice(None, None, -1)), time=1)


def forecast(dataset: xr.Dataset, folder: Path) -> str:
    """WeatherBench 2 hres: latitude up, and the lead time as a dim of its own."""
    later = dataset.copy()
    for name in ("z", "t", "msl"):
        later[name] = dataset[name] + 1
    leads = pd.to_timedelta([0, 24], unit="h")
    both = [d.drop_vars("orog").expand_dims("prediction_timedelta", 1) for d in (dataset, later)]
    joined = xr.concat(both, "prediction_timedelta").assign_coords(prediction_timedelta=leads)
    joined = joined.transpose("time", "prediction_timedelta", ...)
    turned = joined.isel(latitude=slice(None, None, -1))
    return zarr(folder / "forecast.zarr", turned, time=1, prediction_timedelta=1)


def ensemble(dataset: xr.Dataset, folder: Path) -> str:
    """WeatherBench 2 ifs_ens: members first, latitude up."""
    members = [dataset.drop_vars("orog") + i for i in range(3)]
    joined = xr.concat(members, "number").assign_coords(number=[0, 1, 2])
    for name in dataset.data_vars:
        if name in joined:
            joined[name].attrs.update(dataset[name].attrs)
    return zarr(folder / "ens.zarr", joined.isel(latitude=slice(None, None, -1)), time=1, number=2)


def copernicus(dataset: xr.Dataset, folder: Path) -> str:
    """A download of today's climate data store: new names, -180 to 180, in NetCDF 4."""
    names = {"time": "valid_time", "level": "pressure_level"}
    shifted = dataset.rename(names)
    shifted = shifted.assign_coords(longitude=(shifted.longitude + 180) % 360 - 180)
    shifted = shifted.sortby("longitude").sortby("pressure_level", ascending=False)
    shifted.longitude.attrs["units"] = "degrees_east"
    shifted.to_netcdf(folder / "cds.nc")
    return str(folder / "cds.nc")


def climate_model(dataset: xr.Dataset, folder: Path) -> str:
    """CMIP: lat, lon, plev in Pa, in classic NetCDF."""
    renamed = dataset.rename(latitude="lat", longitude="lon", level="plev")
    renamed = renamed.assign_coords(plev=("plev", dataset.level.values * 100.0, {"units": "Pa"}))
    renamed.to_netcdf(folder / "cmip.nc", format="NETCDF3_64BIT")
    return str(folder / "cmip.nc")


def nameless(dataset: xr.Dataset, folder: Path) -> str:
    """Only the units say which dim is which; zarr 3, many small chunks, all shards."""
    renamed = dataset.rename(latitude="j", longitude="i", time="t_axis", level="k")
    return zarr(folder / "units.zarr", renamed, version=3, t_axis=3, k=2, j=2, i=3)


LAYOUTS: dict[str, Layout] = {
    layout.__name__: layout
    for layout in (
        low_resolution,
        full_resolution,
        analysis,
        forecast,
        ensemble,
        copernicus,
        climate_model,
        nameless,
    )
}


def xarray_values(path: str, name: str, **places: Any) -> Fields:
    """What xarray itself gives, as float32."""
    engine: Any = "netcdf4" if path.endswith(".nc") else "zarr"
    with xr.open_dataset(path, engine=engine, chunks=None) as dataset:
        return dataset[name].isel(**places).values.astype(np.float32)


def open_reader(path: str, **chosen: Any) -> Reader:
    """Of the fields as `fields` has them, or of what is chosen; forecasts at lead 0."""
    source = open_source(path)
    if source.leads:
        chosen.setdefault("lead_hours", 0)
    return Reader(select(source, chosen.pop("variables", VARIABLES), **chosen))
