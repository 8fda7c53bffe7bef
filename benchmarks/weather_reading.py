"""How fast states of the atmosphere are read: python benchmarks/weather_reading.py

Random single times of a store of 78 channels (6 variables at 13 levels) at 121 x 240, one time a
chunk: by us, from our packed copy, by plain zarr (one variable after the other) and by xarray with
dask and without. All take their turns in one run, with files in the memory of the system; the
ratios are those of the medians. Needs dask, which rawdiff itself does not: pip install dask
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from measure import write_result
from rawdiff_weather.prepare import pack_states
from rawdiff_weather.reading import Reader
from rawdiff_weather.selection import select
from rawdiff_weather.source import open_source
from rawdiff_weather.states import packed_source

NAMES = [f"v{i}" for i in range(6)]
LEVELS, LATITUDES, LONGITUDES = 13, 121, 240
STORES: dict[str, dict[str, Any]] = {
    "zarr 2, Blosc (WeatherBench 2)": {"zarr_format": 2},
    "zarr 3, Zstandard": {"zarr_format": 3},
}
OURS = ("rawdiff", "rawdiff, packed")
SIX_HOURS = np.timedelta64(6, "h")
Read = Callable[[int], Any]


def make_fields(num_times: int) -> xr.Dataset:
    """Smooth fields with noise on top, which compress about as an analysis does."""
    random = np.random.default_rng(0)
    frequencies = np.fft.rfftfreq(LONGITUDES) + np.abs(np.fft.fftfreq(LATITUDES))[:, None]
    amplitude = (0.02 + frequencies) ** -1.5
    shape = (num_times, LEVELS, LATITUDES, LONGITUDES)

    def draw() -> Any:
        noise = random.normal(size=shape).astype(np.float32)
        smooth = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=shape[-2:])
        return (250 + 10 * smooth / smooth.std() + 0.02 * noise).astype(np.float32)

    dims = ("time", "level", "latitude", "longitude")
    return xr.Dataset(
        {name: (dims, draw(), {"units": "K"}) for name in NAMES},
        coords={
            "time": np.datetime64("2000-01-01", "ns")
            + np.arange(num_times) * np.timedelta64(6, "h"),
            "level": ("level", 50.0 * np.arange(1, LEVELS + 1), {"units": "hPa"}),
            "latitude": np.linspace(90, -90, LATITUDES),
            "longitude": np.arange(LONGITUDES) * 360 / LONGITUDES,
        },
    )


def readers(path: str, packed: Path) -> dict[str, Read]:
    """Each gives [78, 121, 240] of a time."""
    ours = Reader(select(open_source(path), NAMES))
    pack_states(ours, "all", packed)
    copy = Reader(select(packed_source(packed), NAMES))
    group = zarr.open_group(path, mode="r")
    arrays: list[Any] = [group[name] for name in NAMES]
    plain = xr.open_zarr(path, chunks=None)
    reads: dict[str, Read] = {
        "rawdiff": lambda i: ours.read([i])[0],
        "rawdiff, packed": lambda i: copy.read([i])[0],
        "zarr": lambda i: np.concatenate([array[i] for array in arrays]),
        "xarray": lambda i: np.concatenate([plain[n].isel(time=i).values for n in NAMES]),
    }
    if importlib.util.find_spec("dask"):
        lazy = xr.open_zarr(path, chunks={})
        reads["xarray and dask"] = lambda i: np.concatenate(
            [lazy[n].isel(time=i).values for n in NAMES]
        )
    return reads


def measure(reads: dict[str, Read], num_times: int, rounds: int, num_reads: int) -> dict[str, Any]:
    """Milliseconds of a read, by the clock on the wall and of all cores together."""
    random = np.random.default_rng(1)
    expected = reads["zarr"](0)
    assert all(np.array_equal(read(0), expected) for read in reads.values())
    wall: dict[str, list[float]] = {name: [] for name in reads}
    cores: dict[str, list[float]] = {name: [] for name in reads}
    for _ in range(rounds):
        times = random.integers(0, num_times, num_reads).tolist()
        for name, read in reads.items():
            start, used = time.perf_counter(), time.process_time()
            for i in times:
                read(i)
            wall[name].append(1000 * (time.perf_counter() - start) / num_reads)
            cores[name].append(1000 * (time.process_time() - used) / num_reads)
    return {
        name: {
            "milliseconds": statistics.median(wall[name]),
            "milliseconds_of_cores": statistics.median(cores[name]),
            "times_a_second": 1000 / statistics.median(wall[name]),
        }
        for name in reads
    }


def measure_store(fields: xr.Dataset, keys: dict[str, Any], args: Any) -> dict[str, Any]:
    """Results of one store; `times_as_fast_as` has the ratio to each other reader."""
    num_times, chunks = fields.sizes["time"], (1, LEVELS, LATITUDES, LONGITUDES)
    encoding = {variable: {"chunks": chunks} for variable in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/fields.zarr"
        fields.to_zarr(path, encoding=encoding, **keys)
        stored = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
        reads = readers(path, Path(folder) / "packed")
        found = measure(reads, num_times, args.rounds, args.reads)
    ratios = {
        own: {name: v["milliseconds"] / found[own]["milliseconds"] for name, v in found.items()}
        for own in OURS
    }
    share = stored / (4 * num_times * len(NAMES) * math.prod(chunks))
    return {"stored_share": share, "readers": found, "times_as_fast_as": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=48, help="in the store")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--reads", type=int, default=12, help="of each reader in a round")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of metadata that are not consolidated
    versions = {module.__name__: module.__version__ for module in (np, xr, zarr)}
    if importlib.util.find_spec("dask"):
        versions["dask"] = importlib.metadata.version("dask")
    else:
        print("dask is not installed, so xarray with dask is missing: pip install dask")
    fields, results = make_fields(args.times), {}
    for name, keys in STORES.items():
        results[name] = result = measure_store(fields, keys, args)
        print(f"{name}, compressed to {result['stored_share']:.0%}")
        for reader, values in result["readers"].items():
            against = "".join(f"{result['times_as_fast_as'][own][reader]:8.1f}" for own in OURS)
            print(
                f"  {reader:16} {values['times_a_second']:7.1f} times a second, "
                f"{values['milliseconds_of_cores']:5.1f} ms of cores;{against}"
            )
    print("The last columns: how many times as fast rawdiff is, without and with a packed copy.")
    print(write_result("weather_reading", {"versions": versions, "stores": results}))


if __name__ == "__main__":
    main()
