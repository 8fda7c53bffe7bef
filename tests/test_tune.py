"""Tuning: every point is scored once, the best is found and used, and training never sees it."""

import csv
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from processes import ENVIRONMENT, side_by_side
from runs import checkpoint_tensors, rawdiff, small_recipe, start, write_arrays

import rawdiff as package
from rawdiff.cli.main import main
from rawdiff.errors import UserError
from rawdiff.evaluate.report import Report
from rawdiff.recipe_file import load_recipe
from rawdiff.saved.folder import RunFolder
from rawdiff.train.start import train
from rawdiff.tune import points
from rawdiff.tune.search import default_grid, parse_grid, tune


def silent(text: str) -> None:
    pass


def make_recipe(folder: Path, *, labels: bool = True) -> Path:
    x = np.random.default_rng(0).normal(size=(40, 1, 8)).astype(np.float32)
    arrays = {"x": x, "labels": np.arange(40) % 4} if labels else {"x": x}
    return small_recipe(
        folder,
        write_arrays(folder, **arrays),
        [2],
        train={"num_steps": 20, "ema": [{"power": 0.05}, {"power": 0.1}, {"decay": 0.9}]},
        checkpoint={"every_steps": 10, "ema_every_steps": 2},
        holdout={"fraction": 0.25},
        sample={"num_steps": 3},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> RunFolder:
    return train(load_recipe(make_recipe(tmp_path_factory.mktemp("trained"))), say=silent)


@pytest.fixture
def run(trained, tmp_path) -> RunFolder:
    shutil.copytree(trained.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def pretend(monkeypatch, score, *, goal: str = "low", oracle: float | None = 0) -> list[dict]:
    """Instead of scoring: a known function of the settings. Returns what was asked for."""
    asked = []

    def score_model(folder, model, target, *, metrics, **_):
        settings = model.recipe.sample.model_dump(mode="json")
        assert model.origin["weights"] == settings["weights"]
        asked.append(
            settings | model.origin | {"metrics": metrics, "evaluate": model.recipe.evaluate}
        )
        columns = {"generated": score(settings)}
        report = Report(
            {"frechet": columns if oracle is None else columns | {"real held-out": oracle}},
            {"frechet": goal},
            {},
            {"frechet": {"generated": 12}},
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(vars(report)))
        return report

    monkeypatch.setattr(points, "score_model", score_model)
    return asked


GRID = {"weights": ["power_0.1", "power_0.13"], "cfg_scale": [1, 2, 3]}


def distance(settings: dict) -> float:
    """Least for power_0.13 at a scale of 2."""
    return abs(settings["cfg_scale"] - 2) + (settings["weights"] == "power_0.1") + 1


@pytest.mark.parametrize(
    ("goal", "sign", "oracle"), [("low", 1, 0.0), ("high", -1, 0.0), ("oracle", 1, 1.1)]
)
def test_the_best_is_found_whichever_way_a_score_goes(run, monkeypatch, goal, sign, oracle) -> None:
    pretend(monkeypatch, lambda settings: sign * distance(settings), goal=goal, oracle=oracle)
    outcome = tune(run.path, grid=GRID, say=silent)
    tuned = yaml.safe_load(run.tuned.read_text())
    assert tuned["sample"] == {
        "weights": "power_0.13",
        "cfg_scale": 2.0,
        "cfg_interval": tuned["sample"]["cfg_interval"],
    }
    assert (tuned["metric"], tuned["score"], tuned["oracle"]) == ("frechet", sign * 1.0, oracle)
    assert (tuned["num_samples"], tuned["step"]) == (12, 20)
    losses = [point.loss for point in outcome.points]
    assert losses == sorted(losses)
    rows = list(csv.DictReader((run.tune / "table.csv").open()))
    assert (rows[0]["weights"], rows[0]["cfg_scale"]) == ("power_0.13", "2")
    assert float(rows[0]["frechet"]) == sign * 1.0
    assert (run.tune / "table.md").read_text().count("\n| power_") == len(rows) == 10
    assert Image.open(run.tune / "picture.png").width > 200


def test_nothing_is_scored_twice_and_idle_guidance_once(run, monkeypatch) -> None:
    asked = pretend(monkeypatch, distance)
    grid = GRID | {"cfg_interval": [[0.1, 1], [0, 1]]}
    told: list[str] = []
    tune(run.path, grid=grid, say=told.append)
    assert len(asked) == 2 * (1 + 2 * 2)  # at a scale of 1 the interval does nothing
    counted = [text.split()[0] for text in told if "cfg_scale=" in text]
    assert counted == [f"{number}/10" for number in range(1, 11)]
    assert {one["step"] for one in asked} == {20}
    tune(run.path, grid=grid, say=silent)
    assert len(asked) == 10
    tune(run.path, grid=grid | {"cfg_scale": [2, 4]}, say=silent)
    assert len(asked) == 14
    for changes in ({"overrides": ["sample.num_steps=4"]}, {"num_samples": 5}, {"step": 10}):
        before = len(asked)
        tune(run.path, grid={"weights": ["power_0.1"], "cfg_scale": [2]}, say=silent, **changes)
        assert len(asked) == before + 2, changes
    before = len(asked)
    manifest = run.path / "checkpoints" / "step-00000020" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")  # as if it were of another training
    tune(run.path, grid=grid, say=silent)
    assert len(asked) == before + 10


def test_each_set_of_weights_is_read_once(run, monkeypatch) -> None:
    read, found = [], package.run.read_weights

    def counted(folder, weights, *rest):
        read.append(weights)
        return found(folder, weights, *rest)

    monkeypatch.setattr("rawdiff.run.read_weights", counted)
    asked = pretend(monkeypatch, distance)
    grid = {"cfg_scale": [2, 3, 4], "weights": ["power_0.1", "power_0.13"]}
    tune(run.path, ["sample.weights=model"], grid=grid, say=silent)
    assert len(asked) == 12
    assert read == ["model", "power_0.1", "power_0.13"]  # the first for the picture


def test_other_snapshots_of_the_same_steps_are_scored_anew(run, monkeypatch) -> None:
    asked = pretend(monkeypatch, distance)
    grid = {"weights": ["power_0.13"], "cfg_scale": [1]}
    tune(run.path, grid=grid, step=8, say=silent)
    snapshot = run.averages / "step-00000004.safetensors"
    changed = bytearray(snapshot.read_bytes())
    changed[-1] ^= 1
    snapshot.write_bytes(changed)
    tune(run.path, grid=grid, step=8, say=silent)
    assert len(asked) == 2


def test_a_score_that_is_judged_by_real_data_is_not_searched_without_them(run, monkeypatch) -> None:
    pretend(monkeypatch, distance, goal="oracle", oracle=None)
    for _ in range(2):  # and again where the point is there already
        with pytest.raises(UserError, match=r"Give some \(`holdout\.data\.path=…`\)"):
            tune(run.path, grid=GRID, say=silent)
    assert not run.tuned.exists()


def test_the_grid_is_all_averages_and_more_widths_and_guidance_with_labels(
    trained, tmp_path
) -> None:
    grid = default_grid(trained, trained.recipe())
    assert grid["weights"][:2] == ["decay_0.9", "power_0.03"]
    assert {"power_0.05", "power_0.1", "power_0.15"} <= set(grid["weights"])
    assert grid["cfg_scale"][0] == 1
    assert grid["cfg_scale"][-1] == 4
    assert grid["cfg_interval"] == [[0.1, 1.0], [0.0, 1.0]]
    recipe = load_recipe(make_recipe(tmp_path, labels=False), ["checkpoint.ema_every_steps=null"])
    plain = train(recipe, say=silent)
    grid = default_grid(plain, recipe)
    assert grid["weights"] == ["decay_0.9", "power_0.05", "power_0.1"]
    assert grid["cfg_scale"] == [1.0]
    assert len(grid["cfg_interval"]) == 1


def test_grid_keys_are_those_of_sampling() -> None:
    assert parse_grid(["weights=power_0.05,model", "sample.cfg_interval=[0.1,1],[0,1]"]) == {
        "weights": ["power_0.05", "model"],
        "cfg_interval": [[0.1, 1], [0, 1]],
    }
    for text, message in (
        ("cfg_scal=1", "did you mean `cfg_scale`"),
        ("cfg_scale=", "has no values"),
        ("num_samples=10,20", "`--num-samples`"),
        ("writer=png,arrays", "decides nothing of a score"),
        ("cfg_scale=[1", "are not YAML"),
    ):
        with pytest.raises(UserError, match=message):
            parse_grid([text])


def test_a_number_of_samples_holds_for_evaluators_of_features_too(run, monkeypatch) -> None:
    asked = pretend(monkeypatch, distance)
    tune(run.path, grid=GRID, num_samples=7, say=silent)
    assert asked[0]["evaluate"].num_samples == 7
    with pytest.raises(UserError, match="no score `fid`"):  # the pretended one is another
        tune(run.path, grid=GRID, metric="fid", num_samples=9, say=silent)
    assert asked[-1]["evaluate"].evaluators["fid"]["num_samples"] == 9


def test_mistakes_show_before_anything_is_scored(run, monkeypatch, tmp_path) -> None:
    asked = pretend(monkeypatch, distance)
    for grid, message in (
        ({"weights": ["power_0.1", "power_0.5"]}, "between 0 and 0.28"),
        ({"cfg_scale": [1, -1]}, "cfg_scale"),
        ({"weights": ["decay_0.5"]}, "none of the run's"),
    ):
        with pytest.raises(UserError, match=message):
            tune(run.path, grid=grid, say=silent)
    assert not asked
    with pytest.raises(UserError, match="no score `spectrum/k`; `spectrum` has: spectrum"):
        tune(run.path, grid=GRID, metric="spectrum/k", say=silent)
    with pytest.raises(UserError, match="Did you mean `frechet`"):
        tune(run.path, grid=GRID, metric="freche", say=silent)
    assert not asked


@pytest.fixture
def tuned(run) -> RunFolder:
    content = {
        "sample": {"weights": "power_0.13", "cfg_scale": 2.5},
        "metric": "frechet", "score": 1.25, "oracle": 1.0, "num_samples": 100, "step": 20,
    }  # fmt: skip
    run.tuned.write_text(yaml.safe_dump(content))
    return run


def test_loading_sampling_scoring_and_exporting_use_what_was_tuned(tuned, tmp_path, capsys) -> None:
    said = []
    model = package.load(tuned.path, say=said.append)
    assert model.origin["weights"] == "power_0.13"
    assert model.recipe.sample.cfg_scale == 2.5
    assert "tuned by frechet (1.25" in said[0]
    own = package.load(tuned.path, weights="power_0.1", say=said.append)
    assert own.origin["weights"] == "power_0.1"
    assert own.recipe.sample.cfg_scale == 2.5

    for command, file in (("sample", "samples/settings.json"), ("eval", "scores.json")):
        capsys.readouterr()
        assert main([command, str(tuned.path)]) == 0
        assert "cfg_scale=2.5" in capsys.readouterr().out
        written = json.loads((tuned.path / file).read_text())
        origin = written.get("origin", written)
        assert (origin["weights"], origin["sample"]["cfg_scale"]) == ("power_0.13", 2.5)

    explicit = ["sample.cfg_scale=1", "sample.weights=model"]
    assert main(["sample", str(tuned.path), *explicit]) == 0
    assert "tuned" not in capsys.readouterr().out
    written = json.loads((tuned.path / "samples" / "settings.json").read_text())
    assert (written["weights"], written["sample"]["cfg_scale"]) == ("model", 1.0)

    package_folder = tmp_path / "export"
    assert main(["export", str(tuned.path), str(package_folder)]) == 0
    exported = package.load(package_folder, say=silent)
    assert exported.recipe.sample.cfg_scale == 2.5
    assert exported.origin["weights"] == "power_0.13"
    assert torch.equal(exported.sample(3, label=1), model.sample(3, label=1))


def test_a_damaged_file_of_tuned_settings_is_named(tuned) -> None:
    tuned.tuned.write_text("score: much")
    with pytest.raises(UserError, match=r"tuned.yaml is damaged"):
        package.load(tuned.path, say=silent)


def test_training_goes_on_as_if_nothing_had_been_tuned(tuned, trained) -> None:
    recipe = trained.path.parent / "recipe.yaml"
    longer = ["train.num_steps=30"]
    other = trained.path.parent / "other"
    if not other.exists():
        shutil.copytree(trained.path, other)
    for run in (tuned.path, other):
        assert main(["train", str(recipe), f"run_dir={run}", *longer]) == 0
    first, second = (checkpoint_tensors(run, 30) for run in (tuned.path, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert tuned.tuned.is_file()
    assert "power_0.13" not in (tuned.path / "recipe.yaml").read_text()


def test_a_killed_tuning_goes_on_without_scoring_a_point_again(run, tmp_path) -> None:
    command = [
        "tune", run.path, "sample.num_steps=30", "--num-samples", 8,
        "--grid", "weights=power_0.05,power_0.075,power_0.1", "--grid", "cfg_scale=1,2,3",
        "--grid", "cfg_interval=[0.1,1]",
    ]  # fmt: skip
    process = start(*command)
    folder, deadline = run.tune / "points", time.monotonic() + 120
    while len(list(folder.glob("*.json"))) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.003)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    assert not run.tuned.exists()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert 3 <= len(before) < 9
    done = rawdiff(*command, env=os.environ | ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert len(after) == 9
    assert before == {name: after[name] for name in before}

    whole = tmp_path / "whole"
    shutil.copytree(run.path, whole, ignore=shutil.ignore_patterns("tune", "tuned.yaml", "scoring"))
    ended = side_by_side(2, "tune", whole, *command[2:])  # and two processes find the same
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert ended[1][1] == ""
    for name in ("tuned.yaml", "tune/table.csv"):
        assert (whole / name).read_text() == (run.path / name).read_text()


def test_an_export_is_tuned_in_its_guidance(run, tmp_path, capsys) -> None:
    out = tmp_path / "export"
    assert main(["export", str(run.path), str(out), "--weights", "power_0.13"]) == 0
    assert main(["tune", str(out), "--grid", "cfg_scale=1,3", "--num-samples", "4"]) == 0
    assert "weights" not in yaml.safe_load((out / "tuned.yaml").read_text())["sample"]
    assert main(["sample", str(out)]) == 0
    assert "Sampling settings tuned by frechet" in capsys.readouterr().out
    assert main(["tune", str(out), "--grid", "weights=model"]) == 2
    assert "one set of weights" in capsys.readouterr().err
