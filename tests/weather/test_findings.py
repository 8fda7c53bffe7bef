"""What a person should see of fields before training."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import weather_stores as stores
from rawdiff_weather.dataset import WeatherDataset
from rawdiff_weather.inspection import findings

from rawdiff.cli.main import main
from rawdiff.errors import UserError


def shown(path: str, **keys) -> dict[str, str]:
    keys.setdefault("variables", stores.VARIABLES)
    return dict(WeatherDataset(path=path, **keys).findings())


def test_gaps_missing_values_empty_fields_and_bad_chunks_are_said(tmp_path: Path) -> None:
    dataset = stores.known(300).fillna(0.0).drop_isel(time=[40, 41, 100])
    dataset["z"][:, :, 0] = np.nan  # a fifth of the rows
    dataset["msl"][200] = np.nan
    dataset["t"][7, 1] = np.nan
    path = stores.low_resolution(dataset, tmp_path)
    found = shown(path)
    assert found["times"] == (
        "297 from 2020-02-28T00:00 to 2020-05-12T18:00, 6 hours apart; 2 gaps: between "
        "2020-03-08T18:00 and 2020-03-09T12:00 (2 missing), between 2020-03-23T18:00 and "
        "2020-03-24T06:00 (1 missing)"
    )
    assert found["missing"] == (
        "z@500 20 %, z@850 20 %, z@1000 20 %, t@850 0.337 %, msl 0.337 %, at changing places "
        "(all times read)"
    )
    assert found["empty fields"] == (
        "t@850 at 2020-02-29T18:00, msl at 2020-04-18T18:00 (all times read)"
    )
    assert "8 times too much of `z` (3 variables" in found["chunks"]
    assert "(8, 3, 8, 5) of (297, 3, 8, 5)" in found["chunks"]


def test_nothing_to_say_is_said_shortly(tmp_path: Path) -> None:
    dataset = stores.known(20).fillna(0.0)
    found = shown(stores.full_resolution(dataset, tmp_path))
    assert found == {
        "times": "20 from 2020-02-28T00:00 to 2020-03-03T18:00, 6 hours apart, no gap",
        "missing": "nothing (all times read)",
    }
    dataset["msl"][:, 2:4] = np.nan
    shutil.rmtree(tmp_path / "full.zarr")
    found = shown(stores.full_resolution(dataset, tmp_path), variables=("msl",))
    assert found["missing"] == "msl 40 %, always at the same places (all times read)"


def test_of_a_large_store_a_part_is_read_and_that_is_said(tmp_path: Path) -> None:
    data = WeatherDataset(
        path=stores.ensemble(stores.known(10), tmp_path), variables=stores.VARIABLES
    )
    found = dict(findings(data.reader, seconds=0))
    assert found["missing"].endswith("at the same places (1 of 10 times of member 0 read)")


def test_a_packed_copy_is_not_badly_chunked(tmp_path: Path) -> None:
    data = WeatherDataset(
        path=stores.low_resolution(stores.known(16), tmp_path), variables=("t@500",)
    )
    assert "24 times too much" in dict(data.findings())["chunks"]
    data.pack(tmp_path, lambda done, total: None)
    copy = data.packed(tmp_path)
    assert copy is not None
    assert "chunks" not in dict(copy.findings())


def test_check_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = stores.known(40, latitude=(75, 45, 15, -15, -45, -75)).drop_isel(time=[20])
    path = stores.low_resolution(dataset, tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"{{run_dir: run, data: {{name: weather, path: {path}, variables: [t], past: 1}}, "
        "adapter: {name: weather, patch_size: [3, 4]}, model: {width: 32, depth: 2, heads: 2, "
        "in_context_len: 0}, train: {num_steps: 1, batch_size: 8}}"
    )
    assert main(["check", str(recipe)]) == 0
    rows = [line.split(maxsplit=1)[0] for line in capsys.readouterr().out.splitlines()]
    for row in ("times", "missing", "chunks", "loading"):
        assert row in rows


def test_times_that_are_there_twice_are_an_error(tmp_path: Path) -> None:
    twice = stores.known(10).isel(time=[0, 1, 2, 2, 3])
    with pytest.raises(UserError, match=r"has the time 2020-02-28T12:00 twice \(1 such places\)"):
        shown(stores.zarr(tmp_path / "twice.zarr", twice, time=1))
