"""Forecasts are scored beside those that need no model, and shown on a page."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from rawdiff_weather.dataset import WeatherDataset
from rawdiff_weather.evaluation import ForecastEvaluator
from rawdiff_weather.tables import some
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.series import Question

DIMS = ("time", "latitude", "longitude")
NOISE = 0.5


@pytest.fixture
def sst(tmp_path) -> dict[str, WeatherDataset]:
    """Ten years of months: a season, and an anomaly of which 0.8 is left after a month."""
    random = np.random.default_rng(0)
    anomaly = np.zeros((120, 6, 8))
    for month in range(1, 120):
        anomaly[month] = 0.8 * anomaly[month - 1] + NOISE * random.normal(size=(6, 8))
    season = 3 * np.sin(2 * np.pi * np.arange(120) / 12)[:, None, None]
    fields = (anomaly + season).astype(np.float32)
    fields[:, 2, 3] = np.nan
    times = np.arange("2000-01", "2010-01", dtype="datetime64[M]").astype("datetime64[ns]")
    data = xr.Dataset(
        {"sst": (DIMS, fields, {"units": "degC"})},
        coords={
            "time": times,
            "latitude": np.linspace(75, -75, 6),
            "longitude": np.arange(0, 360, 45.0),
        },
    )
    data.to_zarr(tmp_path / "sst.zarr")
    keys = {"path": str(tmp_path / "sst.zarr"), "variables": ("sst",), "past": 1}
    keys["climatology"] = {"time": ("2000", "2007")}
    return {
        "train": WeatherDataset(**keys, time=("2000", "2007")),
        "held_out": WeatherDataset(**keys, time=("2008", "2009")),
    }


def perfect(question: Question) -> Tensor:
    """An ensemble that knows how the anomalies were made."""
    noise = [
        torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(int(index) % 2**31))
        for index in question.index
    ]
    return 0.8 * question.conditions.context + NOISE * torch.stack(noise)


def kept(num: int, make: Callable[[int], dict[str, Tensor]]) -> dict[str, Tensor]:
    parts = [make(number) for number in range(num)]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def score(evaluator: ForecastEvaluator, sst: dict[str, WeatherDataset], folder: Path):
    return evaluator.score(perfect, sst["held_out"], sst["train"], kept, folder, print)


def test_a_perfect_ensemble_beats_what_needs_no_model_and_has_the_spread_of_its_errors(
    sst, tmp_path
) -> None:
    evaluator = ForecastEvaluator(num_steps=3, num_members=24)
    found, num_inits = evaluator.score(
        perfect, sst["held_out"], sst["train"], kept, tmp_path, print
    )
    assert num_inits == 24 - 3
    generated = found["generated"]
    for lead, rmse in (("1 month", 0.5), ("2 months", 0.5 * 1.64**0.5)):
        assert generated[f"rmse/sst/{lead}"] == pytest.approx(rmse, rel=0.1)
        assert generated[f"spread_skill/sst/{lead}"] == pytest.approx(1, abs=0.1)
        assert generated[f"crps/sst/{lead}"] == pytest.approx(rmse / np.pi**0.5, rel=0.15)
    for name in ("persistence", "climatology", "anomaly persistence", "years of climatology"):
        for key in ("rmse/sst/1 month", "crps/sst/3 months"):
            assert generated[key] < found[name][key]
    damped = found["damped anomaly persistence"]
    assert damped["rmse/sst/1 month"] == pytest.approx(generated["rmse/sst/1 month"], rel=0.1)

    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["region"] for row in rows} >= {"global", "tropics"}
    assert {row["forecast"] for row in rows} == set(found)
    assert rows[0]["forecast"] == "generated"
    assert len(json.loads((tmp_path / "scores.json").read_text())["generated"]["ranks"]) >= 3


def test_some_leads_are_shown_from_the_first_to_the_last() -> None:
    assert some(range(1, 6), 4) == [1, 2, 4, 5]
    assert some(range(1, 41), 4) == [1, 14, 27, 40]
    assert some("abc", 4) == ["a", "b", "c"]


class Images(HTMLParser):
    num_images = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.num_images += tag == "img"


def test_the_page_has_tables_and_pictures_inside(sst, tmp_path) -> None:
    evaluator = ForecastEvaluator(num_steps=2, num_members=3, num_inits=2)
    score(evaluator, sst, tmp_path)
    page = (tmp_path / "index.html").read_text()
    images = Images()
    images.feed(page)
    assert images.num_images == len(list(tmp_path.glob("*.png"))) == 4
    assert "years of climatology" in page
    assert "src='data:image/png" in page
    assert np.asarray(Image.open(tmp_path / "0.png").convert("L")).std() > 5


def test_without_climatology_only_persistence_stands_beside(sst, tmp_path) -> None:
    evaluator = ForecastEvaluator(num_steps=1, num_members=1, climatology=False, inits=("2008-06",))
    found, num_inits = evaluator.score(
        perfect, sst["held_out"], sst["train"], kept, tmp_path, print
    )
    assert num_inits == 1
    assert set(found) == {"generated", "persistence"}
    assert not any("spread" in key for key in found["generated"])  # one member has none


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"num_steps": 30}, "No held-out time has 1 states before it and all of 30 steps"),
        (
            {"num_steps": 3, "inits": ("2009-11",)},
            "From 2009-11-01T00:00 no forecast can be scored",
        ),
        ({"inits": ("2005-11",)}, "no data at `2005-11`"),
    ],
)
def test_an_init_that_cannot_be_scored_is_refused(sst, tmp_path, keys, words) -> None:
    with pytest.raises(UserError, match=words):
        ForecastEvaluator(**keys).score(
            perfect, sst["held_out"], sst["train"], kept, tmp_path, print
        )


def test_held_out_times_that_have_no_state_are_left_out_and_said(sst, tmp_path, capsys) -> None:
    gappy = xr.open_zarr(sst["train"].path, chunks=None).load().drop_encoding()
    gappy["sst"].loc[{"time": "2008-06"}] = np.nan
    gappy.to_zarr(tmp_path / "gappy.zarr")
    keys = sst["held_out"].model_dump() | {"path": str(tmp_path / "gappy.zarr")}
    both = {**sst, "held_out": WeatherDataset(**keys)}
    _, num_inits = score(ForecastEvaluator(num_steps=1, num_members=2), both, tmp_path)
    assert num_inits == 22
    assert (
        "1 of 23 held-out times are left out. Such as: `sst` at 2008-06" in capsys.readouterr().out
    )


def test_other_series_are_not_scored_as_weather(sst, tmp_path) -> None:
    with pytest.raises(UserError, match="not another series"):
        ForecastEvaluator().score(perfect, object(), sst["train"], kept, tmp_path, print)
