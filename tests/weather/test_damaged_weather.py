"""What is cut off, lost or away is named, and never read as zeros."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weather_stores as stores
from rawdiff_weather.inspection import findings

from rawdiff.errors import UserError


def test_a_store_that_was_away_is_read_when_it_is_back(tmp_path: Path) -> None:
    dataset = stores.known()
    path = Path(stores.full_resolution(dataset, tmp_path))
    reader = stores.open_reader(str(path))
    path.rename(tmp_path / "away")
    with pytest.raises(UserError, match="cannot be read"):
        reader.read([3])
    (tmp_path / "away").rename(path)
    np.testing.assert_array_equal(reader.read([3]), stores.fields(dataset)[[3]])


@pytest.mark.parametrize("layout", ["full_resolution", "low_resolution", "nameless"])
def test_a_chunk_that_is_cut_off_is_named(tmp_path: Path, layout: str) -> None:
    path = stores.LAYOUTS[layout](stores.known(), tmp_path)
    reader = stores.open_reader(path)
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
    np.testing.assert_array_equal(
        stores.open_reader(str(path)).read([2]), stores.fields(dataset)[2:]
    )
    for length in (len(whole) - 8, len(whole) - 1000, len(whole) // 2, 200, 6):
        cut_off = tmp_path / f"{length}.nc"
        cut_off.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut off|cannot be (opened|read)"):
            stores.open_reader(str(cut_off)).read([0, 1, 2])


def test_a_chunk_that_was_never_written_is_missing(tmp_path: Path) -> None:
    path = stores.full_resolution(stores.known(), tmp_path)
    reader = stores.open_reader(path)
    Path(path, "msl", "4.0.0").unlink()
    assert np.isnan(reader.read([4])[0, -1]).all()
    shown = {finding.name: finding.text for finding in findings(reader)}
    assert shown["empty fields"] == "msl at 2020-02-29T00:00 (all times read)"
