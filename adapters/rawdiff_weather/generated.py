"""Weather of a small atmosphere as a CF zarr, for those who have no data:

python -m rawdiff_weather.generated flow.zarr --days 730
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from rawdiff.errors import UserError
from rawdiff.files import require_new_folder
from rawdiff_weather.axes import Fields
from rawdiff_weather.flow import GRAVITY, Air, Flow, geopotential, mountain, wind
from rawdiff_weather.sphere import Harmonics, Real

START = "2001-01-01"
SPIN_UP_DAYS = 60
MEAN_GEOPOTENTIAL = 5500 * GRAVITY  # m²/s²: of the middle of the air
DEPTH = 10_000.0  # m: H, only to give the mountain a height
TIMES_A_CHUNK = 8

ATTRIBUTES = {
    "u_component_of_wind": {"standard_name": "eastward_wind", "units": "m s**-1"},
    "v_component_of_wind": {"standard_name": "northward_wind", "units": "m s**-1"},
    "geopotential": {"standard_name": "geopotential", "units": "m**2 s**-2"},
    "orography": {"standard_name": "surface_altitude", "units": "m"},
}


def generate(
    num_days: int, *, seed: int = 0, hours: int = 6, num_latitudes: int = 32, air: Air | None = None
) -> xr.Dataset:
    """Wind and geopotential every `hours` for `num_days`, and the mountain below them.

    Cells of equal width in latitude and longitude, none on a pole, as of the 64 x 32 grid of
    WeatherBench 2. Begins after 60 days, when jets and waves have forgotten how they began.
    The same seed gives the same fields; on other processors rounding lets them part after weeks.
    """
    air = air or Air()
    latitude = 90 - (np.arange(num_latitudes) + 0.5) * 180 / num_latitudes
    longitude = np.arange(2 * num_latitudes) * 180 / num_latitudes
    shown = Harmonics(air.truncation, np.sin(np.deg2rad(latitude)), len(longitude))
    num_steps, rest = divmod(hours * air.num_steps_a_day, 24)
    if rest or not num_steps:
        raise UserError(
            f"{hours} hours are no multiple of the {24 / air.num_steps_a_day:g} of a step."
        )
    flow = Flow(air, seed)
    for _ in range(SPIN_UP_DAYS * air.num_steps_a_day):
        flow.step()
    states = np.empty((num_days * 24 // hours, 3, num_latitudes, len(longitude)), dtype=np.float32)
    for i in range(len(states)):
        states[i] = _shown(flow, shown)
        for _ in range(num_steps):
            flow.step()
    return _dataset(states, DEPTH * mountain(air, shown), latitude, longitude, hours, seed)


def write(dataset: xr.Dataset, path: Path) -> None:
    """A zarr store at `path`, whole or not at all. UserError if something is there already."""
    require_new_folder(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    encoding = {
        str(name): {"chunks": (TIMES_A_CHUNK, *field.shape[1:])}
        for name, field in dataset.data_vars.items()
        if "time" in field.dims
    }
    try:
        dataset.to_zarr(partial, zarr_format=2, consolidated=True, encoding=encoding)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rawdiff_weather.generated", description=__doc__
    )
    parser.add_argument("out", type=Path, help="the zarr store that is written")
    parser.add_argument("--days", type=_positive, default=730)
    parser.add_argument("--hours", type=_positive, default=6, help="between two times")
    parser.add_argument(
        "--latitudes", type=_positive, default=32, help="half as many as longitudes"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        require_new_folder(args.out)
        start = time.perf_counter()
        made = generate(args.days, seed=args.seed, hours=args.hours, num_latitudes=args.latitudes)
        write(made, args.out)
    except (UserError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    sizes = " x ".join(map(str, made["geopotential"].shape))
    print(f"{args.out}: {sizes} in {time.perf_counter() - start:.0f} s")
    return 0


def _shown(flow: Flow, grid: Harmonics) -> Fields:
    """Wind and geopotential [3, H, W] on the grid that is shown."""
    u, v = wind(grid, flow.vorticity)
    cosine = np.sqrt(1 - grid.mu**2)[:, None]
    phi = grid.field(geopotential(flow.grid, flow.vorticity)) + MEAN_GEOPOTENTIAL
    return np.concatenate([u / cosine, v / cosine, phi]).astype(np.float32)


def _dataset(
    states: Fields, orography: Real, latitude: Real, longitude: Real, hours: int, seed: int
) -> xr.Dataset:
    dims = ("time", "latitude", "longitude")
    fields = {
        name: (dims, states[:, i], attributes)
        for i, (name, attributes) in enumerate(list(ATTRIBUTES.items())[:3])
    }
    still = (dims[1:], orography.astype(np.float32), ATTRIBUTES["orography"])
    times = np.datetime64(START, "ns") + np.arange(len(states)) * np.timedelta64(hours, "h")
    return xr.Dataset(
        {**fields, "orography": still},
        coords={
            "time": ("time", times, {"standard_name": "time"}),
            "latitude": (
                "latitude",
                latitude,
                {"standard_name": "latitude", "units": "degrees_north"},
            ),
            "longitude": (
                "longitude",
                longitude,
                {"standard_name": "longitude", "units": "degrees_east"},
            ),
        },
        attrs={
            "Conventions": "CF-1.8",
            "title": "One layer of air on the turning Earth: jets, waves and a mountain",
            "source": f"rawdiff_weather.generated, seed {seed}",
            "references": "Vallis et al. 2004, doi:10.1175/1520-0469(2004)061<0264:AMASDM>2.0.CO;2",
        },
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
