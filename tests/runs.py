"""Small runs for tests: recipes on arrays, real processes, and all tensors of a checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load

from rawdiff.recipe_file import merge

TIMING = {"samples_per_second", "model_flops", "data_share", "slowest_process", "seconds_left"}

SMALL_MODEL = {
    "width": 32,
    "depth": 2,
    "heads": 2,
    "bottleneck": None,
    "in_context_len": 2,
    "in_context_start": 1,
}


def write_arrays(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def small_recipe(folder: Path, data: Path, patch_size: list[int], **changes: Any) -> Path:
    """A recipe on arrays in a .npz file, whose keys beside `x` are used under their own names."""
    names = [name for name in np.load(data).files if name != "x"]
    recipe = {
        "run_dir": str(folder / "run"),
        "data": {"name": "array", "path": str(data), "key": "x", **{name: name for name in names}},
        "adapter": {"name": "grid", "patch_size": patch_size, "pad": True},
        "model": SMALL_MODEL,
        "train": {
            "num_steps": 40,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "ema": [{"power": 0.1}, {"decay": 0.9}],
            "log_every": 1,
            "device": "cpu",
            "tensorboard": False,
        },
        "checkpoint": {"every_steps": 5},
        "sample": {"num_steps": 5, "num_samples": 8},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(merge(recipe, changes)))
    return path


def random_recipe(folder: Path, **changes: Any) -> Path:
    """An epoch of 50 samples, batches of 8 in micro-batches of 2: all kinds of randomness on."""
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 2, 6, 6)).astype(np.float32)
    x[random.random(x.shape) < 0.05] = np.nan
    data = write_arrays(folder, x=x, labels=random.integers(0, 3, 50))
    defaults = {"model": {"depth": 4, "dropout": 0.2}, "train": {"micro_batch_size": 2}}
    return small_recipe(folder, data, [2, 2], **merge(defaults, changes))


def rawdiff(
    *args: object, script: object = None, **kwargs: Any
) -> subprocess.CompletedProcess[str]:
    """The command, or a script in its place, in a process of its own."""
    program = ["-m", "rawdiff"] if script is None else [str(script)]
    command = [sys.executable, *program, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **kwargs)


def start(*args: object, new_group: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rawdiff", *map(str, args)]
    return subprocess.Popen(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=new_group,
    )


def signal_at_step(
    process: subprocess.Popen[str], run: Path, step: int, number: int, *, group: bool = False
) -> None:
    """Send a signal, to the process or all of its group, as soon as the log shows a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"ended before step {step}: {process.communicate()[0]}")
        if (lines := metrics(run)) and lines[-1]["step"] >= step:
            os.killpg(process.pid, number) if group else process.send_signal(number)
            process.wait(60)
            return
        time.sleep(0.003)
    process.send_signal(signal.SIGKILL)
    raise AssertionError(f"did not reach step {step} in time")


def metrics(run: Path) -> list[dict[str, float]]:
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def checkpoint_tensors(run: Path, step: int) -> dict[str, Tensor]:
    """Everything that a checkpoint holds, by name."""
    path = run / "checkpoints" / f"step-{step:08d}"
    saved = FileSystemReader(path).read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(facts.size, dtype=facts.properties.dtype)
        for name, facts in saved.items()
        if isinstance(facts, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp_load(dict(tensors), checkpoint_id=path, no_dist=True)
    return tensors


def differences(a: Path, b: Path, step: int) -> list[str]:
    """Where two runs differ, to the last bit: names in their checkpoints of a step, and `log`.

    What the clock says may differ. Both logs must have every step once.
    """
    first, second = checkpoint_tensors(a, step), checkpoint_tensors(b, step)
    assert first.keys() == second.keys()
    kinds = {name.split(".")[0] for name in first}
    assert {"model", "optimizer", "ema", "window", "guard", "step"} <= kinds
    different = [name for name in first if not torch.equal(first[name], second[name])]
    logs = [
        [{k: v for k, v in line.items() if k not in TIMING} for line in metrics(run)]
        for run in (a, b)
    ]
    whole = [line["step"] for line in logs[0]] == list(range(1, step + 1))
    return different if whole and logs[0] == logs[1] else [*different, "log"]
