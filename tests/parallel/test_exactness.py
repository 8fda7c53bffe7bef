"""However many processes share a run, and however they cut its batches, it is the same run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import torchrun
from runs import checkpoint_tensors, metrics, small_recipe, write_arrays

RECORDING = Path(__file__).with_name("recording.py")
NUM_STEPS, BATCH_SIZE, NUM_SAMPLES = 20, 8, 50
LIMIT = 1e-6  # relative, of losses in float32


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """All kinds of randomness, missing values, and shapes that no number of processes divides."""
    folder = tmp_path_factory.mktemp("exactness")
    random = np.random.default_rng(0)
    x = random.normal(size=(NUM_SAMPLES, 2, 6, 6)).astype(np.float32)
    x[random.random(x.shape) < 0.05] = np.nan
    data = write_arrays(folder, x=x, labels=random.integers(0, 3, NUM_SAMPLES))
    return small_recipe(
        folder,
        data,
        [2, 2],
        model={"width": 36, "depth": 4, "dropout": 0.2, "in_context_len": 3},
        train={"num_steps": NUM_STEPS, "learning_rate": 1e-3},
        checkpoint={"every_steps": 10},
    )


def record(recipe: Path, name: str, *overrides: str, processes: int = 1) -> Path:
    """The run `name`, continued if it is there, with a record of its samples."""
    run = recipe.parent / name
    args = ("train", recipe, f"run_dir={run}", *overrides)
    os.environ["RECORD"] = str(run / "record")
    if processes > 1:
        done = torchrun(processes, *args, script=RECORDING)
    else:
        command = [sys.executable, RECORDING, *args]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def lines(run: Path) -> list[dict]:
    files = sorted((run / "record").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def samples(run: Path) -> dict[int, list[str]]:
    """What every place of the run met; none comes twice."""
    found = [line for line in lines(run) if "place" in line]
    met = {line["place"]: line["bits"] for line in found}
    assert len(met) == len(found) == NUM_STEPS * BATCH_SIZE
    return met


def first_weights(run: Path) -> dict[str, str]:
    (first,) = {json.dumps(line["weights"]) for line in lines(run) if line.get("step") == 0}
    return json.loads(first)


@pytest.fixture(scope="module")
def alone(recipe: Path) -> Path:
    return record(recipe, "alone")


def require_same_run(run: Path, alone: Path) -> None:
    assert samples(run) == samples(alone)
    assert first_weights(run) == first_weights(alone)
    for key in ("loss", "grad_norm"):
        found, expected = (np.array([line[key] for line in metrics(r)]) for r in (run, alone))
        assert len(found) == NUM_STEPS
        np.testing.assert_allclose(found, expected, rtol=LIMIT if key == "loss" else 1e-5)
    found, expected = checkpoint_tensors(run, NUM_STEPS), checkpoint_tensors(alone, NUM_STEPS)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        scale = float(tensor.double().abs().max()) or 1.0
        assert float((found[name] - tensor).abs().max()) < 1e-3 * scale, name


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_micro_batches_do_not_change_the_run(recipe, alone, micro_batch_size):
    run = record(recipe, f"micro{micro_batch_size}", f"train.micro_batch_size={micro_batch_size}")
    require_same_run(run, alone)


def test_two_processes_do_not_change_the_run(recipe, alone):
    run = record(recipe, "two", "train.micro_batch_size=1", processes=2)
    require_same_run(run, alone)


def test_four_processes_that_share_and_replicate_do_not_change_the_run(recipe, alone):
    mesh = ("parallel.replicate=2", "parallel.shard=2", "parallel.reshard_after_forward=true")
    require_same_run(record(recipe, "four", *mesh, processes=4), alone)


def test_from_four_processes_to_one_in_the_midst_of_an_epoch(recipe, alone):
    record(recipe, "fewer", "train.num_steps=10", processes=4)
    require_same_run(record(recipe, "fewer"), alone)


def test_from_one_process_to_four_in_the_midst_of_an_epoch(recipe, alone):
    record(recipe, "more", "train.num_steps=10")
    require_same_run(record(recipe, "more", processes=4), alone)
