"""Real files are read as xarray reads them."""

from pathlib import Path

import numpy as np
import pytest
import weather_stores as stores
import xarray as xr
from rawdiff_weather.inspection import findings
from rawdiff_weather.times import Step

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
    reader = stores.open_reader(path, variables=None)
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
    sea = stores.open_reader(str(folder / "ersst_v5_monthly_2deg.nc"), variables=None)
    assert np.isnan(sea.read(range(108))).sum() == 543_456
    storm = stores.open_reader(str(folder / "nmc_storm_1996_6var.nc"), variables=None)
    empty = np.isnan(storm.read(range(50))).all((2, 3))
    names = [channel.name for channel in storm.plan.channels]
    lost = [
        (storm.plan.times.text(t)[5:13], names[c]) for t, c in zip(*empty.nonzero(), strict=True)
    ]
    assert "v500 at 1996-01-14T00:00 and 1 more" in " ".join(f.text for f in findings(storm))
    assert lost == [
        ("01-09T06", "t"), ("01-09T06", "v"), ("01-14T00", "v500"), ("01-14T06", "v"),
    ]  # fmt: skip


def test_real_members_differ(shared: Path) -> None:
    path = shared / "data" / "weather" / "era5_ensemble_global_3deg.nc"
    reader = stores.open_reader(str(path), variables=["z@500"])
    assert reader.plan.members == tuple(range(10))
    read = reader.read([1] * 10, range(10))
    with xr.open_dataset(path) as dataset:
        expected = dataset.z.sel(isobaricInhPa=500).isel(time=1).values
    np.testing.assert_array_equal(read[:, 0], expected)
