"""A study: every cell the same budget and data, nothing done twice, one table that tells it all."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import metrics, rawdiff, signal_at_step, small_recipe, start, write_arrays

from rawdiff.cli.main import main
from rawdiff.data.loading import run_batches
from rawdiff.evaluate.frechet import Frechet
from rawdiff.study.cells import make_cells, parse_grid
from rawdiff.study.runner import Runner
from rawdiff.study.stages import STAGES
from rawdiff.study.start import plan_study
from rawdiff.train.start import train
from rawdiff.train.stopping import STOPPED
from rawdiff.tuned import Tuned, write_tuned

TIMING = {"samples_per_second", "model_flops", "data_share", "seconds_left"}
SECONDS = "training seconds"


def write_recipe(folder: Path, **changes) -> Path:
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 1, 8)).astype(np.float32)
    data = write_arrays(folder, x=x, labels=random.integers(0, 3, 40))
    train = {"num_steps": 3} | changes.pop("train", {})
    evaluate = {"evaluators": {"wasserstein": {}, "frechet": {"num_components": 4}}}
    return small_recipe(
        folder,
        data,
        [2],
        train=train,
        holdout={"fraction": 0.25},
        sample={"num_steps": 2, "num_samples": 4},
        evaluate=evaluate,
        **changes,
    )


def study(recipe: Path, *arguments: object) -> list[object]:
    return ["study", recipe, "--out", recipe.parent / "out", *arguments]


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "table.csv").open() as file:
        return list(csv.DictReader(file))


def without_time(out: Path) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != SECONDS} for row in rows(out)]


def command_at_once(
    runner: Runner, arguments: list[str], place: object, log: Path
) -> tuple[int, int]:
    """`Runner._command` without the seconds that a process takes to start."""
    with log.open("a") as file:
        print("$ rawdiff", *arguments, file=file, flush=True)
        begin = file.tell()
        with redirect_stdout(file), redirect_stderr(file):
            return main(arguments), begin


@contextmanager
def at_once() -> Iterator[None]:
    """Cells are run by this very process, one at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "_command", command_at_once)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Two cells that differ in how they are sampled and in nothing else, two in the loss."""
    recipe = write_recipe(tmp_path_factory.mktemp("finished"))
    grid = ["--grid", "flow.loss=x,v", "--grid", "sample.num_steps=1,2"]
    with at_once():
        assert main([str(a) for a in study(recipe, *grid)]) == 0
    return recipe.parent / "out"


def test_cells_see_the_same_data_in_the_same_order_with_the_same_noise(finished) -> None:
    def lines(cell: str) -> list[dict[str, float]]:
        found = metrics(finished / "cells" / cell)
        return [{k: v for k, v in line.items() if k not in TIMING} for line in found]

    assert len(lines("loss-x_num_steps-1")) == 3
    assert lines("loss-x_num_steps-1") == lines("loss-x_num_steps-2")
    assert lines("loss-v_num_steps-1") == lines("loss-v_num_steps-2")
    assert lines("loss-x_num_steps-1") != lines("loss-v_num_steps-1")


def test_the_first_batch_is_that_of_all_cells(tmp_path) -> None:
    planned = plan_study(write_recipe(tmp_path), ["flow.prediction=x,eps,v", "model.width=32,64"])
    firsts = [
        next(
            run_batches(
                one.data.train,
                seed=one.cell.recipe.seed,
                batch_size=one.cell.recipe.train.batch_size,
                start=0,
                num_workers=0,
            )
        )
        for one in planned.planned
    ]
    assert len(firsts) == 6
    assert all(torch.equal(first.x, firsts[0].x) for first in firsts)


def test_the_table_is_what_the_runs_hold(finished) -> None:
    table = rows(finished)
    assert [row["flow.loss"] for row in table] == ["x", "x", "v", "v", "real held-out"]
    for row in table[:-1]:
        cell = f"loss-{row['flow.loss']}_num_steps-{row['sample.num_steps']}"
        run = finished / "cells" / cell
        scores = json.loads((run / "scores.json").read_text())["scores"]
        assert {"frechet", "wasserstein"} <= scores.keys()
        for name, score in scores.items():
            assert float(row[name]) == score["generated"]
            assert float(table[-1][name]) == score["real held-out"]
        assert float(row["training loss"]) == metrics(run)[-1]["loss"]
        assert (row["steps"], row["status"]) == ("3", "finished")
        assert float(row[SECONDS]) > 0
    assert len({row["wasserstein"] for row in table}) == 5


def test_two_keys_stand_across_each_other(finished) -> None:
    text = (finished / "table.md").read_text()
    by_cell = {(row["flow.loss"], row["sample.num_steps"]): row for row in rows(finished)[:-1]}
    for steps in "12":
        numbers = [f"{float(by_cell[loss, steps]['frechet']):.4g}" for loss in "xv"]
        assert f"| sample.num_steps = {steps} | {numbers[0]} | {numbers[1]} |" in text
    assert "| `frechet` | flow.loss = x | flow.loss = v |" in text
    assert "--grid flow.loss=x,v --grid sample.num_steps=1,2" in text
    assert "torch" in text
    assert "3 steps" in text


def test_the_picture_shows_each_cell_beside_real_data(finished) -> None:
    picture = Image.open(finished / "picture.png")
    assert picture.width > 3 * 320  # two columns of cells, one of real data
    assert picture.height > 2 * 160


def test_finished_cells_are_left_alone(finished, capsys) -> None:
    files = [path for path in (finished / "cells").rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    table = (finished / "table.csv").read_bytes()
    recipe = finished.parent / "recipe.yaml"
    grid = ["--grid", "flow.loss=x,v", "--grid", "sample.num_steps=1,2"]
    assert main([str(a) for a in study(recipe, *grid)]) == 0
    output = capsys.readouterr().out
    assert "4 of them are finished already" in output
    assert "`sample.num_steps` changes nothing in training" in output
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert (finished / "table.csv").read_bytes() == table


def test_a_cell_that_was_tuned_is_sampled_and_scored_as_its_recipe_says(tmp_path) -> None:
    recipe = write_recipe(tmp_path)
    command = study(recipe, "--grid", "flow.loss=x", "--parallel", 1)
    assert rawdiff(*command).returncode == 0
    out = tmp_path / "out"
    before = without_time(out)
    cell = out / "cells" / "loss-x"
    (cell / "tuned.yaml").write_text(
        "{sample: {cfg_scale: 3.0, weights: model}, metric: frechet, score: 1, "
        "num_samples: 2, step: 3}"
    )
    (cell / "scores.json").unlink()
    shutil.rmtree(cell / "samples")
    done = rawdiff(*command)
    assert done.returncode == 0, done.stdout
    assert without_time(out) == before
    assert json.loads((cell / "samples" / "settings.json").read_text())["sample"]["cfg_scale"] == 1


def test_another_recipe_in_the_same_folder_is_refused(finished, capsys) -> None:
    recipe = finished.parent / "recipe.yaml"
    grid = ["--grid", "flow.loss=v", "--grid", "sample.num_steps=1,2"]
    assert main([str(a) for a in study(recipe, *grid, "model.depth=3")]) == 2
    error = capsys.readouterr().err
    assert "flow.loss=v, sample.num_steps=1" in error
    assert "model.depth: 2 there, 3 now" in error
    assert main([str(a) for a in study(recipe, *grid, "train.num_steps=2")]) == 2
    assert "at step 3 already" in capsys.readouterr().err


def test_a_killed_study_goes_on_and_does_nothing_twice(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in this process
    recipe = write_recipe(tmp_path, train={"num_steps": 30})
    grid = ["--grid", "flow.prediction=x,v"]
    out, whole = tmp_path / "out", tmp_path / "whole"
    process = start(*study(recipe, *grid), new_group=True)
    second = out / "cells" / "prediction-v"
    signal_at_step(process, second, 12, signal.SIGKILL, group=True)
    first = [path for path in (out / "cells" / "prediction-x").rglob("*") if path.is_file()]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first}
    assert before
    assert not (second / "scores.json").exists()
    assert [row["status"] for row in rows(out)] == ["finished", "not begun", ""]
    with at_once():
        assert main([str(a) for a in study(recipe, *grid)]) == 0
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first} == before
    commands = {
        name: (out / "cells" / f"prediction-{name}.log").read_text().count("$ rawdiff train")
        for name in "xv"
    }
    assert commands == {"x": 1, "v": 2}
    assert "Continues" in (out / "cells" / "prediction-v.log").read_text()
    with at_once():
        assert main(["study", str(recipe), "--out", str(whole), *grid]) == 0
    assert without_time(out) == without_time(whole)


def test_a_cell_that_outlives_its_killed_study_is_not_trained_twice(tmp_path) -> None:
    """A kill hits the study alone; its cell goes on, and a second one beside it would fail."""
    recipe = write_recipe(tmp_path, train={"num_steps": 10**6}, checkpoint={"every_steps": 10**6})
    process = start(*study(recipe, "--grid", "flow.prediction=x,v"), new_group=True)
    signal_at_step(process, tmp_path / "out" / "cells" / "prediction-x", 3, signal.SIGKILL)
    try:
        done = rawdiff(*study(recipe, "--grid", "flow.prediction=x,v"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert done.returncode == 2
    assert "Another process works in" in done.stderr
    assert [row["status"] for row in rows(tmp_path / "out")] == ["not begun", "not begun", ""]


def test_a_study_that_is_asked_to_stop_leaves_a_checkpoint_of_what_it_trains(tmp_path) -> None:
    recipe = write_recipe(tmp_path, train={"num_steps": 10**6}, checkpoint={"every_steps": 10**6})
    process = start(*study(recipe, "--grid", "flow.prediction=x,v"))
    run = tmp_path / "out" / "cells" / "prediction-x"
    signal_at_step(process, run, 3, signal.SIGTERM)
    output = process.communicate()[0]
    assert process.returncode == STOPPED, output
    assert "Stopped by SIGTERM; the same command continues." in output
    assert "prediction=v" not in output.partition("begins")[2]
    step = metrics(run)[-1]["step"]
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"step-{step:08d}"]


@pytest.mark.parametrize("way", ["signal", "exception"])
def test_after_a_stop_no_cell_begins_and_none_is_called_failed(tmp_path, monkeypatch, way) -> None:
    cells = make_cells(write_recipe(tmp_path), parse_grid(["seed=1,2,3"]), [], tmp_path)
    (tmp_path / "cells").mkdir()
    runner, begun, ended = Runner([{}], lock=-1), [], []  # `_command` starts no process

    def command(*args: object) -> tuple[int, int]:
        if way == "signal":  # a terminal sends Ctrl-C to the command, too
            runner._stop.received = "SIGINT"
        return -signal.SIGINT, 0

    def end(ending: object) -> None:
        ended.append(ending)
        raise RuntimeError("no picture")

    monkeypatch.setattr(Runner, "_command", command)
    if way == "signal":
        assert runner.run(cells, begins=begun.append, ended=end) == "SIGINT"
        assert ended == []
    else:
        with pytest.raises(RuntimeError, match="no picture"):
            runner.run(cells, begins=begun.append, ended=end)
        assert len(ended) < len(cells)
    assert len(begun) < len(cells)


def test_a_cell_that_stops_by_itself_is_not_called_failed_and_the_others_go_on(
    tmp_path, capsys
) -> None:
    """Its own time is over, as that of a job may be; the same command continues."""
    recipe = write_recipe(tmp_path)
    command = study(recipe, "--grid", "train.stop_after_hours=1e-9,1")
    assert main([str(part) for part in command]) == STOPPED
    assert "Stopped by a cell's own limit; the same command continues." in capsys.readouterr().out
    statuses = [row["status"] for row in rows(tmp_path / "out")]
    assert statuses[:2] == ["begun", "finished"]
    assert main([str(part) for part in command]) == STOPPED


def test_what_was_tuned_in_a_cell_does_not_change_its_scores(tmp_path) -> None:
    (cell,) = make_cells(write_recipe(tmp_path), parse_grid(["seed=1"]), [], tmp_path)
    folder = train(cell.recipe)
    tuned = {"num_steps": 1, "weights": "decay_0.9"}
    write_tuned(folder, Tuned(sample=tuned, metric="frechet", score=1, num_samples=2, step=3))
    for stage in STAGES[1:]:
        assert main(stage.arguments(cell)) == 0
        assert stage.is_done(cell)


def test_a_cell_that_fails_is_recorded_and_the_others_go_on(tmp_path, capsys) -> None:
    recipe = write_recipe(tmp_path)
    wild = ["train.clip_norm=null", "guard.max_skipped=1", "train.log_every=1"]
    grid = ["--grid", "train.learning_rate=1e30,1e-3", *wild]
    done = rawdiff(*study(recipe, *grid, "--parallel", 2))
    assert done.returncode == 0, done.stdout + done.stderr
    bad, good, _ = rows(tmp_path / "out")
    assert bad["status"].startswith("failed: train: The 1 steps up to step 2 were skipped")
    assert bad["wasserstein"] == ""
    assert good["status"] == "finished"
    assert float(good["wasserstein"]) > 0
    assert "| failed: train: The 1 steps" in (tmp_path / "out" / "table.md").read_text()
    with at_once():
        assert main([str(a) for a in study(recipe, *grid, "--strict")]) == 2
    assert "1 of the cells failed. train.learning_rate=1e30" in capsys.readouterr().err


def test_cells_may_differ_in_shape_and_one_or_three_keys_make_a_table(tmp_path, capsys) -> None:
    recipe = write_recipe(tmp_path, train={"num_steps": 1})
    np.savez(tmp_path / "fine.npz", x=np.zeros((40, 1, 16), np.float32), labels=np.arange(40) % 3)
    grid = ["--grid", f"data.path={tmp_path / 'data.npz'},{tmp_path / 'fine.npz'}"]
    more = ["--grid", "model.depth=2", "--grid", "adapter.patch_size=[4]"]
    with at_once():
        assert main([str(a) for a in study(recipe, *grid, *more, "--metric", "frechet")]) == 0
    assert "they do not have the same budget" in capsys.readouterr().out
    coarse, fine, oracle = rows(tmp_path / "out")
    assert coarse["wasserstein, real held-out"] != fine["wasserstein, real held-out"]
    assert oracle["wasserstein"] == ""  # there is none for both
    assert coarse["adapter.patch_size"] == "[4]"
    shapes = [
        np.load(path / "samples" / "samples-000000.npz")["x"].shape
        for path in sorted((tmp_path / "out" / "cells").glob("*/"))
    ]
    assert sorted(shapes) == [(4, 1, 8), (4, 1, 16)]
    cells = set((tmp_path / "out" / "cells").iterdir())
    assert main([str(a) for a in study(recipe, *grid, "--check")]) == 0
    assert "2 cells" in capsys.readouterr().out
    assert set((tmp_path / "out" / "cells").iterdir()) == cells  # nothing of the new grid


def test_a_score_that_turns_out_to_be_of_no_cell_is_told_at_the_end(
    tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(Frechet, "score_keys", lambda evaluator, info: None)  # not known before
    recipe = write_recipe(tmp_path, train={"num_steps": 1})
    with at_once():
        arguments = study(recipe, "--grid", "flow.loss=x", "--metric", "frechet/abc")
        assert main([str(a) for a in arguments]) == 0
    said = "No cell has the score `frechet/abc`; there are: frechet, wasserstein, "
    assert said in capsys.readouterr().out


def test_cells_that_are_finished_are_marked_and_those_of_another_grid_counted(
    finished, capsys
) -> None:
    def told(*grid: str) -> str:
        arguments = study(finished.parent / "recipe.yaml", *grid, "--check")
        assert main([str(a) for a in arguments]) == 0
        return capsys.readouterr().out

    two = told("--grid", "flow.loss=x,eps", "--grid", "sample.num_steps=1")
    done, new = (line for line in two.splitlines() if line.startswith("  flow.loss="))
    assert done.endswith("8 samples; finished already")
    assert new.endswith("8 samples")
    assert "not in this table: 3. The command with their grid" in two
    whole = told("--grid", "flow.loss=x,v", "--grid", "sample.num_steps=1,2")
    assert "other grids" not in whole


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grid", "adapter.patch_size=[2],[2,2]"], "The cell adapter.patch_size=[2,2]"),
        (["--grid", "model.heads=2,5"], "model.heads=5"),
        (["--grid", "flow.loss=x", "--metric", "fid"], "add `evaluate.evaluators.fid={}`"),
        (["--grid", "flow.loss=x", "--metric", "fid", "evaluate.evaluators=null"], "not scored"),
        (["--grid", "flow.loss=x", "--metric", "frechet/abc"], "`frechet` has: frechet."),
        (["--grid", "flow.loss=x", "--metric", "wasserstein/y"], "has: wasserstein, wasserstein/"),
        (["--grid", "flow.loss=x", "--parallel", "0"], "give 1 or more"),
        (["--grid", "flow.loss=x", "holdout=null"], "holds none out"),
        (["--grid", "flow.loss=x", "data.path=nowhere.npz"], "nowhere.npz"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path, capsys, arguments, words
) -> None:
    assert main([str(a) for a in study(write_recipe(tmp_path), *arguments)]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert not told.out
    assert not (tmp_path / "out").exists()
