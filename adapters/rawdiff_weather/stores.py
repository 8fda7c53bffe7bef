"""Paths, patterns and URLs to the stores that lie there, opened with xarray and closed again."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import xarray as xr

from rawdiff.errors import UserError
from rawdiff_weather.classic import check_length
from rawdiff_weather.layout import Kind, Store, describe

NETCDF_BEGINS = (b"CDF\x01", b"CDF\x02", b"CDF\x05", b"\x89HDF")
ZARR_HAS = ("zarr.json", ".zgroup", ".zmetadata")


def expand(paths: Sequence[str]) -> list[str]:
    """Local paths and URLs with patterns written out. UserError if one matches nothing."""
    found: list[str] = []
    for path in (str(path).removeprefix("file://") for path in paths):
        if not glob.has_magic(path) or Path(path).exists():
            found.append(path)
            continue
        files, pattern = fsspec.core.url_to_fs(
            str(Path(path).expanduser()) if _is_local(path) else path
        )
        matches = sorted(map(str, files.glob(pattern)))
        if not matches:
            raise UserError(f"No file matches `{path}`, taken from {Path.cwd()}. Look at the path.")
        found += matches if _is_local(path) else map(files.unstrip_protocol, matches)
    if not found:
        raise UserError("No path is given. Write at least one zarr store or NetCDF file.")
    return list(dict.fromkeys(found))


def open_store(path: str) -> Store:
    """UserError if it is no zarr store or NetCDF file, or has no grid of latitude and longitude."""
    path = str(Path(path).expanduser()) if _is_local(path) else path
    kind = _kind(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that are not consolidated
            options: dict[str, Any] = {"decode_cf": False, "chunks": None}
            engine: Any = "zarr" if kind == "zarr" else "netcdf4"
            dataset = xr.open_dataset(path, engine=engine, **options)
    except Exception as error:
        raise UserError(
            f"{path} cannot be opened ({type(error).__name__}: {error}). It is damaged, "
            "unfinished, or not what its name says: write it again."
        ) from error
    with dataset:
        return describe(dataset, path, kind)


def _kind(path: str) -> Kind:
    try:
        files, place = fsspec.core.url_to_fs(path)
        if not files.exists(place):
            raise UserError(f"{path} does not exist. Look at the path.")
        if files.isdir(place):
            if any(files.exists(f"{place.rstrip('/')}/{name}") for name in ZARR_HAS):
                return "zarr"
            raise UserError(f"{path} is a folder, but no zarr store. Give its files as `/*.nc`.")
        with files.open(place, "rb") as file:
            begin = file.read(4)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} cannot be reached ({type(error).__name__}: {error}). Look at the path; a URL "
            "such as gs:// needs its package (`pip install gcsfs`)."
        ) from error
    if begin not in NETCDF_BEGINS:
        raise UserError(
            f"{path} is neither a zarr store nor a NetCDF file (it begins with {begin!r}). GRIB "
            "files must be converted first, `xarray.open_dataset(…, engine='cfgrib').to_zarr(…)`."
        )
    if not _is_local(path):
        raise UserError(
            f"{path}: NetCDF files are read from local disks only. Copy it, or use zarr."
        )
    if begin != NETCDF_BEGINS[-1]:
        check_length(path)
    return "netcdf"


def _is_local(path: str) -> bool:
    return "://" not in path and "::" not in path
