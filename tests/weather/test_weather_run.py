"""From a store to a trained model, its forecasts, samples and scores, by the commands alone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from processes import side_by_side, torchrun

import rawdiff
from rawdiff.assemble import open_data
from rawdiff.cli import main as cli
from rawdiff.conditions import draw_conditions
from rawdiff.files import locked
from rawdiff.sampling import Sampler

DIMS = ("time", "latitude", "longitude")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Three years of days: temperature on two levels, and sea ice that land has none of."""
    random = np.random.default_rng(0)
    season = np.sin(2 * np.pi * np.arange(1096) / 365.25)[:, None, None, None]
    temperature = (280 + 5 * season + random.normal(size=(1096, 2, 4, 8))).astype(np.float32)
    ice = random.normal(size=(1096, 4, 8)).astype(np.float32)
    ice[:, 1, 3] = np.nan
    data = xr.Dataset(
        {
            "temperature": (
                ("time", "level", *DIMS[1:]),
                temperature,
                {"units": "K", "standard_name": "air_temperature"},
            ),
            "ice": (DIMS, ice, {"units": "1", "long_name": "sea ice"}),
        },
        coords={
            "time": np.datetime64("2000-01-01", "ns") + np.arange(1096) * np.timedelta64(1, "D"),
            "level": [500, 850],
            "latitude": np.linspace(67.5, -67.5, 4),
            "longitude": np.arange(-180, 180, 45.0),
        },
    )
    path = tmp_path_factory.mktemp("weather") / "days.zarr"
    data.to_zarr(path)
    return path


@pytest.fixture(scope="module")
def run(store) -> Path:
    recipe = {
        "run_dir": str(store.parent / "run"),
        "data": {
            "name": "weather", "path": str(store), "variables": ["temperature", "ice"],
            "time": ["2000", "2001"], "past": 1, "lead": [1, 2], "forcings": ["season"],
        },
        "holdout": {"data": {"time": ["2002", "2002"]}},
        "adapter": {"name": "weather", "patch_size": [2, 2]},
        "model": {"width": 32, "depth": 1, "heads": 2, "bottleneck": 8, "in_context_len": 0},
        "train": {"num_steps": 3, "batch_size": 8, "tensorboard": False},
        "sample": {"num_steps": 2, "num_samples": 5, "batch_size": 2, "solver": "euler"},
        "evaluate": {"num_samples": 8, "num_reference": 16},
    }  # fmt: skip
    path = store.parent / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert cli.main(["train", str(path)]) == 0
    return Path(recipe["run_dir"])


def test_two_processes_forecast_what_one_does(run, tmp_path) -> None:
    request = ("--init", "2002-03-01,2002-03-05", "--steps", 3, "--members", 3)
    done = torchrun(2, "sample", run, *request, "--out", tmp_path / "two.zarr")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("holds the forecasts") == 1
    assert (
        cli.main(["sample", str(run), *map(str, request), "--out", str(tmp_path / "one.zarr")]) == 0
    )
    one, two = (xr.open_zarr(tmp_path / name, chunks=None) for name in ("one.zarr", "two.zarr"))
    assert not np.isnan(one.temperature).any()
    assert one.identical(two)
    assert one.sizes["number"] == 3
    assert one.ice.isnull().sum() == 2 * 3 * 3
    assert np.array_equal(one.longitude, np.arange(0, 360, 45))


def test_a_killed_forecast_goes_on_to_the_same_bits(run, tmp_path) -> None:
    request = ("--init", "2002-03-01", "--steps", "40", "--members", "6", "--out")
    killed, whole = tmp_path / "killed.zarr", tmp_path / "whole.zarr"
    command = [sys.executable, "-m", "rawdiff", "sample", str(run), *request, str(killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(list(killed.glob("ice/*.*.*.0.0"))) < 100:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert cli.main(["sample", str(run), *request, str(killed)]) == 0
    assert cli.main(["sample", str(run), *request, str(whole)]) == 0
    assert xr.open_zarr(killed, chunks=None).identical(xr.open_zarr(whole, chunks=None))


def test_a_sample_written_and_read_again_has_the_same_bits_and_names(run) -> None:
    assert cli.main(["sample", str(run)]) == 0
    found = xr.open_zarr(run / "samples" / "samples.zarr", chunks=None)
    model = rawdiff.load(run, say=lambda text: None)
    settings = model.recipe.sample
    info = model.sampler.info
    conditions = draw_conditions(info, 5, None, lambda: open_data(model.recipe).real)
    drawn = torch.cat(
        [
            model.sampler.draw(torch.arange(i, min(i + 2, 5)), conditions[i : i + 2], settings)
            for i in (0, 2, 4)
        ]
    ).numpy()
    assert np.array_equal(found.temperature.values, drawn[:, :2])
    assert np.array_equal(found.ice.values, drawn[:, 2], equal_nan=True)
    assert found.temperature.dims == ("sample", "level", *DIMS[1:])
    assert found.temperature.attrs == {"units": "K", "standard_name": "air_temperature"}
    assert found.ice.attrs["long_name"] == "sea ice"
    assert found.attrs["status"] == "finished"
    assert found.level.values.tolist() == [500, 850]
    assert found.latitude.values.tolist() == [67.5, 22.5, -22.5, -67.5]
    assert (run / "samples" / "picture.png").is_file()


def test_levels_and_times_as_axes_train_forecast_and_are_written(run, store, tmp_path) -> None:
    keys = [
        "data.variables=[temperature]", "data.level_axis=true", "data.num_times=2", "data.lead=1",
        "adapter.patch_size=[2,1,2,2]", f"run_dir={tmp_path / 'axes'}", "train.num_steps=2",
        "sample.num_samples=3",
    ]  # fmt: skip
    assert cli.main(["train", str(store.parent / "recipe.yaml"), *keys]) == 0
    out = str(tmp_path / "out.zarr")
    assert cli.main(
        ["sample", str(tmp_path / "axes"), "--init", "2002-03-01", "--steps", "3", "--out", out]
    ) == 0  # fmt: skip
    found = xr.open_zarr(out, chunks=None)
    assert found.temperature.dims[-3:] == ("level", "latitude", "longitude")
    assert found.sizes["prediction_timedelta"] == 3
    assert cli.main(["sample", str(tmp_path / "axes")]) == 0
    samples = xr.open_zarr(tmp_path / "axes" / "samples" / "samples.zarr", chunks=None)
    assert samples.temperature.dims == ("sample", "step", "level", "latitude", "longitude")


def test_eval_scores_forecasts_beside_baselines(run, capsys) -> None:
    keys = {"num_inits": 2, "num_members": 2}
    overrides = [f"evaluate.evaluators.forecast.{key}={n}" for key, n in keys.items()]
    assert cli.main(["eval", str(run), "--metric", "forecast", *overrides]) == 0
    text = capsys.readouterr().out
    assert "persistence" in text
    assert "need no model" in text
    scores = json.loads((run / "scores-forecast.json").read_text())
    row = scores["scores"]["forecast/rmse/temperature@500/2 days"]
    assert {"generated", "persistence", "climatology"} <= row.keys()
    assert scores["counts"]["forecast"]["generated"] == 2
    assert (run / "scores" / "forecast" / "index.html").is_file()


def test_scores_of_forecasts_go_on_where_they_were_stopped(run, monkeypatch, capsys) -> None:
    keys = {"num_inits": 3, "num_members": 2, "num_steps": 2}
    command = ["eval", str(run), "--metric", "forecast"]
    command += [f"evaluate.evaluators.forecast.{key}={n}" for key, n in keys.items()]
    draw, left = Sampler.draw, iter(range(5))

    def draw_and_die(*args: object) -> torch.Tensor:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(Sampler, "draw", draw_and_die)
    assert cli.main(command) == 130
    monkeypatch.setattr(Sampler, "draw", draw)
    capsys.readouterr()
    assert cli.main(command) == 0
    assert "2 of 3 forecasts for `forecast` are there already." in capsys.readouterr().out
    stopped = json.loads((run / "scores-forecast.json").read_text())["scores"]
    shutil.rmtree(run / "scoring")
    ended = side_by_side(2, *command)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert json.loads((run / "scores-forecast.json").read_text())["scores"] == stopped


def complaint(capsys, *args: object) -> str:
    assert cli.main([str(arg) for arg in args]) == cli.MISTAKE
    return " ".join(capsys.readouterr().err.split())


def test_other_units_are_not_taken_for_the_same(run, store, tmp_path, capsys) -> None:
    other = xr.open_zarr(store, chunks=None).load().drop_encoding()
    other["temperature"].attrs["units"] = "degC"
    other.to_zarr(tmp_path / "celsius.zarr")
    text = complaint(
        capsys, "sample", run, "--init", "2002-03-01", f"data.path={tmp_path / 'celsius.zarr'}"
    )
    assert "units: ['K', 'K', '1'] there, ['degC', 'degC', '1'] now" in text


def test_files_that_call_a_variable_otherwise_are_no_other_data(run, store, tmp_path) -> None:
    other = xr.open_zarr(store, chunks=None).load().drop_encoding()
    other["ice"].attrs["long_name"] = "ice on the sea"
    other.to_zarr(tmp_path / "named.zarr")
    keys = ("--init", "2002-03-01", "--steps", "1", "--out", str(tmp_path / "out.zarr"))
    path = f"data.path={tmp_path / 'named.zarr'}"
    assert cli.main(["sample", str(run), *keys, path]) == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.step=2 days", "'step': '1 day'"),
        ("data.target=tendency", "'target': 'state'"),
        ("data.lead=[1,3]", "'lead': '1, 2'"),
    ],
)
def test_data_of_another_meaning_are_refused(run, capsys, override, words) -> None:
    text = complaint(capsys, "sample", run, "--init", "2002-03-01", override)
    assert "was trained on other data" in text
    assert words in text


def test_held_out_times_are_none_of_the_training(run, store, capsys) -> None:
    recipe = store.parent / "recipe.yaml"
    text = complaint(capsys, "check", recipe, "holdout.data.time=[2001-12-01,2002]")
    assert "31 held-out times, from 2001-12-01T00:00 to 2001-12-31T00:00, are among those" in text
    usual = "data.climatology.time=[2000,2002]"
    assert "would know of what came" in complaint(capsys, "check", recipe, usual)


def test_settings_that_the_data_cannot_meet_are_no_missing_data(run, store, capsys) -> None:
    text = complaint(capsys, "check", store.parent / "recipe.yaml", "data.lead=2000")
    assert "There is no window" in text
    assert "Without its data" not in text


def test_two_forecasts_into_one_file_do_not_meet(run, tmp_path, capsys) -> None:
    command = ["sample", str(run), "--init", "2002-03-01", "--out", str(tmp_path / "out.zarr")]
    assert cli.main(command) == 0
    with locked(tmp_path / "out.zarr"):
        assert "Another process works in" in complaint(capsys, *command)


def test_flags_of_a_forecast_need_an_init(run, capsys) -> None:
    assert "--steps of which forecast? Give --init" in complaint(
        capsys, "sample", run, "--steps", 3
    )
    text = complaint(capsys, "sample", run, "--init", "2002-03-01", "--members", 0)
    assert "--steps and --members are 1 or more" in text
    assert "no date" in complaint(capsys, "sample", run, "--init", "tomorrow")


def test_data_that_are_no_series_have_no_forecasts(tmp_path, capsys) -> None:
    assert cli.main(["train", "demo", f"run_dir={tmp_path / 'run'}", "train.num_steps=1"]) == 0
    text = complaint(capsys, "sample", tmp_path / "run", "--init", "2002-03-01")
    assert "not trained on a series in time" in text
