"""The recipes run from end to end: those for ERA5 on stores laid out as those of WeatherBench 2."""

import json
from pathlib import Path

import numpy as np
import pytest
import weather_stores as stores
import xarray as xr
from PIL import Image
from rawdiff_weather.generated import main as generate

from rawdiff.cli.main import main
from rawdiff.recipe_file import load_recipe

LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
ALOFT = {
    "geopotential": ("m**2 s**-2", 5e4),
    "temperature": ("K", 250),
    "u_component_of_wind": ("m s**-1", 0),
    "v_component_of_wind": ("m s**-1", 0),
    "specific_humidity": ("kg kg**-1", 0),
    "wind_speed": ("m s**-1", 10),  # derived, and used by no recipe
}
SURFACE = {
    "2m_temperature": ("K", 280),
    "10m_u_component_of_wind": ("m s**-1", 0),
    "10m_v_component_of_wind": ("m s**-1", 0),
    "mean_sea_level_pressure": ("Pa", 1e5),
    "total_precipitation_6hr": ("m", 0),
}
STILL = {"geopotential_at_surface": ("m**2 s**-2", 2000), "land_sea_mask": ("(0 - 1)", 0.3)}
DIMS = ("time", "level", "latitude", "longitude")

# Layout, number of latitudes, what is trained on, what is held out; each four days.
CASES = {
    "era5": (stores.full_resolution, 13, "2018-12-28", "2019-01-01"),
    "era5_1p5deg": (stores.low_resolution, 13, "2018-12-28", "2020-01-01"),
    "era5_5p6deg": (stores.low_resolution, 12, "2015-12-28", "2018-01-01"),
}
SMALL = [
    *("model.width=32", "model.depth=2", "model.heads=2", "model.bottleneck=16"),
    *("train.num_steps=3", "train.batch_size=4", "train.micro_batch_size=2"),
    *("train.num_workers=0", "train.device=cpu", "train.log_every=1", "train.picture_every=null"),
    *("sample.num_steps=2", "sample.batch_size=4", "sample.num_samples=2"),
]  # fmt: skip


def era5(folder: Path, name: str) -> str:
    """A store as the one that the recipe names, but for its size: poles where that has them."""
    layout, num_rows, *days = CASES[name]
    random = np.random.default_rng(0)
    times = np.concatenate(
        [np.datetime64(day, "ns") + np.arange(16) * np.timedelta64(6, "h") for day in days]
    )
    edge = 90 if num_rows % 2 else 90 - 90 / num_rows
    shape = (len(times), len(LEVELS), num_rows, 24)

    def field(sizes: tuple[int, ...], units: str, mean: float) -> tuple:
        values = mean + random.normal(size=sizes).astype(np.float32)
        return DIMS[-len(sizes) :], values, {"units": units, "long_name": "of ERA5"}

    surface = {k: field((shape[0], *shape[2:]), *of) for k, of in SURFACE.items()}
    dataset = xr.Dataset(
        {k: field(shape, *of) for k, of in ALOFT.items()}
        | {k: (("time", *DIMS[2:]), *of[1:]) for k, of in surface.items()}
        | {k: field(shape[2:], *of) for k, of in STILL.items()},
        coords={
            "time": times,
            "level": np.array(LEVELS),  # int64 and without units
            "latitude": np.linspace(edge, -edge, num_rows),
            "longitude": np.arange(24) * 15.0,
        },
    )
    dataset.time.encoding = {"units": "hours since 1959-01-01", "calendar": "proleptic_gregorian"}
    return layout(dataset, folder)


@pytest.mark.parametrize("name", CASES)
def test_an_era5_recipe_runs_from_end_to_end(name, tmp_path, capsys) -> None:
    _, num_rows, _, held_out = CASES[name]
    run = tmp_path / "run"
    num_channels = load_recipe(name).data.shape[0]
    shape = f"data.shape=[{num_channels},{num_rows},24]"
    given = [f"data.path={era5(tmp_path, name)}", f"run_dir={run}", shape, *SMALL]
    assert main(["check", name, *given]) == 0
    shown = capsys.readouterr().out
    assert "longitude" in shown
    assert "(periodic)" in shown
    assert main(["train", name, *given]) == 0
    assert main(["sample", str(run)]) == 0
    assert Image.open(run / "samples" / "picture.png").width > 100
    init = f"{held_out}T12"
    assert main(["sample", str(run), "--init", init, "--steps", "4", "--members", "2"]) == 0
    [forecast] = run.rglob("forecast.zarr")
    with xr.open_zarr(forecast, chunks=None, decode_timedelta=True) as found:
        assert found.sizes["latitude"] == num_rows
        assert found["2m_temperature"].attrs["units"] == "K"
        assert found.sizes["prediction_timedelta"] == 4
        assert np.isfinite(found["2m_temperature"]).all()
        assert abs(found["2m_temperature"] - 280).max() < 100
    if name == "era5_5p6deg":
        scoring = "evaluate.evaluators={forecast: {num_inits: 2, num_steps: 4, climatology: false}}"
        assert main(["eval", str(run), scoring]) == 0
        scores = json.loads((run / "scores.json").read_text())["scores"]
        assert any("geopotential@500" in key for key in scores)


def test_era5_recipes_predict_what_their_comments_say() -> None:
    for name, shape in (("era5", (721, 1440)), ("era5_1p5deg", (121, 240))):
        recipe = load_recipe(name)
        assert recipe.data.info.shape == (5 * 13 + 4, *shape)
        assert len(recipe.data.levels) * 5 + 4 == 69
        assert recipe.data.info.num_context_channels == 2 * 69 + 2 + 2 + 3 + 1
    small = load_recipe("era5_5p6deg").data
    assert (small.past, small.leads, len(small.variables)) == (2, (1, 2, 3, 4), 5)


def test_the_demo_forecasts_the_weather_that_is_made_for_it(tmp_path) -> None:
    """All of `make demo-weather` but its length."""
    store, run = tmp_path / "flow.zarr", tmp_path / "run"
    assert generate(["--days", "30", str(store)]) == 0
    given = [f"data.path={store}", f"run_dir={run}", *SMALL]
    times = [
        'data.time=["2001-01-01", "2001-01-20"]',
        'holdout.data.time=["2001-01-21", "2001-02"]',
    ]
    assert main(["train", "weather_demo", *given, *times]) == 0
    assert main(["sample", str(run), "--init", "2001-01-22", "--steps", "8", "--members", "2"]) == 0
    with xr.open_zarr(run / "forecast.zarr", chunks=None, decode_timedelta=True) as found:
        assert found.geopotential.sizes["prediction_timedelta"] == 2  # 24 and 48 hours
        assert np.isfinite(found.geopotential).all()


def test_global_wind_is_learned_from_a_real_file(shared, tmp_path) -> None:
    file = shared / "data" / "weather" / "gfs_wind10m_1deg.nc"
    run = tmp_path / "run"
    assert main(["train", "gfs_wind", f"data.path={file}", f"run_dir={run}", *SMALL]) == 0
    assert main(["sample", str(run)]) == 0
    assert Image.open(run / "samples" / "picture.png").width > 100
