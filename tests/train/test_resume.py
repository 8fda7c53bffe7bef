"""Stopping and going on equals never stopping, bit for bit."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import (
    checkpoint_tensors,
    differences,
    metrics,
    random_recipe,
    rawdiff,
    signal_at_step,
    start,
)

from rawdiff.train.stopping import STOPPED


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    recipe, whole = random_recipe(folder), folder / "whole"
    done = rawdiff("train", recipe, f"run_dir={whole}")
    assert done.returncode == 0, done.stdout + done.stderr
    return recipe, whole


@pytest.mark.parametrize("kill_at", [1, 17])
def test_a_killed_run_goes_on_as_if_nothing_had_been(uninterrupted, tmp_path, kill_at) -> None:
    recipe, whole = uninterrupted
    run = tmp_path / "killed"
    process = start("train", recipe, f"run_dir={run}")
    signal_at_step(process, run, kill_at, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (run / "checkpoints" / "step-00000040").exists()
    done = rawdiff("train", recipe, f"run_dir={run}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert differences(run, whole, 40) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly_with_a_checkpoint(uninterrupted, tmp_path, number) -> None:
    recipe, whole = uninterrupted
    run = tmp_path / "stopped"
    process = start("train", recipe, f"run_dir={run}")
    signal_at_step(process, run, 12, number)
    output = process.communicate()[0]
    assert process.returncode == STOPPED, output
    assert f"Stopped by {number.name} after step" in output
    stopped_at = metrics(run)[-1]["step"]
    assert (run / "checkpoints" / f"step-{stopped_at:08d}").is_dir()
    done = rawdiff("train", recipe, f"run_dir={run}")
    assert f"after step {stopped_at}" in done.stdout
    assert differences(run, whole, 40) == []


def test_a_run_that_is_made_longer_equals_a_long_one(uninterrupted, tmp_path) -> None:
    recipe, whole = uninterrupted
    run = tmp_path / "longer"
    for num_steps in (17, 40):
        done = rawdiff("train", recipe, f"run_dir={run}", f"train.num_steps={num_steps}")
        assert done.returncode == 0, done.stderr
    assert differences(run, whole, 40) == []
    again = rawdiff("train", recipe, f"run_dir={run}")
    assert "is finished" in again.stdout


def test_micro_batches_change_the_loss_by_rounding_alone(uninterrupted, tmp_path) -> None:
    recipe, whole = uninterrupted
    run = tmp_path / "one_piece"
    done = rawdiff(
        "train", recipe, f"run_dir={run}", "train.micro_batch_size=null", "train.num_steps=5"
    )
    assert done.returncode == 0, done.stderr
    losses = [line["loss"] for line in metrics(run)]
    expected = [line["loss"] for line in metrics(whole)[:5]]
    assert losses == pytest.approx(expected, rel=1e-5)


def test_photographs_with_flips_and_workers_go_on_in_the_middle_of_a_line_of_the_log(
    tmp_path,
) -> None:
    random = np.random.default_rng(0)
    for i in range(30):
        path = tmp_path / "images" / "abc"[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    command = [
        "train",
        "images",
        f"data.path={tmp_path / 'images'}",
        "data.size=16",
        "model={width: 32, depth: 2, heads: 2, in_context_len: 0}",
        "train={num_steps: 80, batch_size: 8, num_workers: 2, log_every: 7, tensorboard: false}",
        "train.picture_every=null",
        "checkpoint.every_steps=4",
    ]
    runs = [tmp_path / "whole", tmp_path / "stopped"]
    whole = rawdiff(*command, f"run_dir={runs[0]}")
    assert whole.returncode == 0, whole.stderr

    process = start(*command, f"run_dir={runs[1]}", new_group=True)
    signal_at_step(process, runs[1], 7, signal.SIGTERM, group=True)
    output = process.communicate()[0]
    assert process.returncode == STOPPED, output  # the workers left stopping to their parent
    assert "Stopped by SIGTERM" in output
    done = rawdiff(*command, f"run_dir={runs[1]}")
    assert done.returncode == 0, done.stderr
    first, second = (checkpoint_tensors(run, 80) for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    lines = [[(line["step"], line["loss"]) for line in metrics(run)] for run in runs]
    assert lines[0] == lines[1]
    assert [step for step, _ in lines[0]] == [*range(7, 80, 7), 80]

    unflipped = rawdiff(*command, f"run_dir={tmp_path / 'unflipped'}", "data.flip=false")
    assert unflipped.returncode == 0, unflipped.stderr
    assert metrics(tmp_path / "unflipped")[0]["loss"] != lines[0][0][1]
