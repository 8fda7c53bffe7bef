"""`rawdiff bench` says how fast a recipe trains here, of any data or none, and leaves nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import torchrun
from runs import random_recipe, small_recipe, write_arrays

from rawdiff.bench.measure import bench
from rawdiff.bench.table import TEXTS
from rawdiff.cli.main import main
from rawdiff.errors import UserError
from rawdiff.recipe_file import load_recipe
from rawdiff.train import objective

QUICK = ["--seconds", "1"]
SMALL = [
    "model.width=32",
    "model.depth=2",
    "model.heads=2",
    "model.size=null",
    "model.bottleneck=null",
]


def labelled(folder: Path, **changes) -> Path:
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 2, 6, 6)).astype(np.float32)
    return small_recipe(
        folder, write_arrays(folder, x=x, labels=np.arange(40) % 3), [2, 2], **changes
    )


def test_all_parts_a_rate_and_all_numbers_are_told_and_nothing_is_left(tmp_path, capsys) -> None:
    recipe = random_recipe(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path.parent / f"{tmp_path.name}-out"
    out.mkdir()
    files = ["--json", "--profile", str(out / "trace.json")]
    assert main(["bench", str(recipe), *QUICK, *files]) == 0
    numbers, printed = capsys.readouterr()
    told = json.loads(numbers)
    words = ("samples a second", "TFLOP/s", "checkpoint", "log")
    sentences = (f"- {sentence}" for sentence in told["advice"])
    for text in (*TEXTS.values(), *words, *sentences, f"chrome://tracing: {files[-1]}"):
        assert text in printed
    assert told["samples_per_second"] > 0
    assert 0 < told["utilization"] < 10
    assert told["environment"]["torch"]
    assert told["advice"]
    assert set(told["measured"]["step"]["parts"]) == set(TEXTS)
    assert told["measured"]["saving"]["num_bytes"] > 0
    names = {
        event.get("name") for event in json.loads((out / "trace.json").read_text())["traceEvents"]
    }
    assert {"forward", "backward", "optimizer"} <= names
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_a_run_that_is_there_is_not_touched(tmp_path) -> None:
    recipe = labelled(tmp_path, train={"num_steps": 2})
    assert main(["train", str(recipe)]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main(["bench", str(recipe), *QUICK]) == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert {path for path, time in after.items() if before.get(path) != time} <= {tmp_path}
    assert after.keys() == before.keys()


@pytest.mark.parametrize("moment", ["trying", "timing", "saving", "other"])
def test_an_interrupt_leaves_nothing(tmp_path, moment) -> None:
    recipe = load_recipe(labelled(tmp_path))
    before = sorted(tmp_path.rglob("*"))

    def interrupt(text: str) -> None:
        if moment in text:
            assert sorted(tmp_path.rglob("*")) != before  # the folder that goes away
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(recipe, seconds=1, say=interrupt)
    assert sorted(tmp_path.rglob("*")) == before


def test_steps_are_those_of_the_recipe_however_many_micro_batches_are_timed(tmp_path) -> None:
    found = bench(load_recipe(random_recipe(tmp_path)), seconds=1)
    assert (found.sizes.share, found.sizes.own, found.sizes.num_micro_batches) == (8, 2, 4)
    assert 1 <= found.sizes.num_timed <= 4
    assert found.samples_per_second == pytest.approx(8 / found.step.whole)


def test_missing_data_are_named_and_random_ones_do_instead(tmp_path, capsys) -> None:
    assert main(["bench", "imagenet_jit_b16"]) == 2
    told = capsys.readouterr().err
    assert "data/imagenet/train" in told
    assert "--synthetic" in told


@pytest.mark.parametrize(
    "name", ["weather_demo", "molecules_demo", "backbones_residue1d", "backbones_pairmap2d"]
)
def test_any_modality_is_measured_without_its_data(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = [*SMALL, "train.batch_size=4", "train.micro_batch_size=null", "train.device=cpu"]
    found = bench(load_recipe(name, keys), seconds=1, synthetic=True)
    assert found.synthetic
    assert found.reading is None
    assert found.samples_per_second > 0
    assert found.step.parts.keys().isdisjoint({"data", "augment", "render"})
    assert not list(tmp_path.iterdir())


def test_what_the_user_can_mend_is_said_before_anything_is_measured(tmp_path, capsys) -> None:
    recipe = str(labelled(tmp_path))
    for arguments, words in (
        ([recipe, "train.batch_sice=8"], "batch_size"),
        ([recipe, "--seconds", "0"], "--seconds 0 is no time"),
        ([recipe, "--profile", str(tmp_path)], "cannot be written"),
        (["no_such_recipe"], "no_such_recipe"),
    ):
        assert main(["bench", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_a_compiler_that_fails_is_named_with_the_cure(tmp_path, monkeypatch, capsys) -> None:
    def backend(graph, inputs):
        raise RuntimeError("no C++ compiler")

    def compiled(function):
        return torch.compile(function, backend=backend, fullgraph=True, dynamic=False)

    monkeypatch.setattr(objective, "compiled", compiled)
    recipe = str(labelled(tmp_path))
    assert main(["bench", recipe, *QUICK, "parallel.compile=true"]) == 2
    error = capsys.readouterr().err
    assert "no C++ compiler" in error
    assert "`parallel.compile: false`" in error


def test_a_network_beyond_this_machines_memory_is_refused(tmp_path) -> None:
    recipe = load_recipe(labelled(tmp_path), ["model.width=65536", "model.depth=2"])
    with pytest.raises(UserError, match="but this machine has"):
        bench(recipe, seconds=1)


def test_several_processes_measure_together_and_one_speaks(tmp_path) -> None:
    done = torchrun(2, "bench", labelled(tmp_path), *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("backward pass") == 1
    assert "1 x 4 samples on each of 2 processes" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "recipe.yaml"]
