"""What a checkpoint costs: torchrun --nproc-per-node 2 benchmarks/save.py

The state of a run of JiT-B/16 at 256 x 256 (131 million parameters, two moments, two EMAs; 2.6 GB),
sharded over the processes, is saved by each mode. A training step would hide the copying, or most
of it; here the state is waited for at once, so the stall is the longest that there can be.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import write_result

from rawdiff.assemble import make_network, make_patcher, materialize, open_data, take_statistics
from rawdiff.parallel.apply import named_tensors, parallelize
from rawdiff.parallel.processes import Processes, join_processes
from rawdiff.precision import choose_device
from rawdiff.recipe import CheckpointSettings, Recipe
from rawdiff.saved.folder import DESCRIPTION, RunFolder
from rawdiff.saved.saving import Saver
from rawdiff.train.state import TrainState


def make_state(folder: Path, device: torch.device, processes: Processes) -> TrainState:
    """With moments of the optimizer, as after a step."""
    images = np.zeros((4, 3, 256, 256), dtype=np.uint8)
    with processes.first_before_others():
        if processes.is_first:
            np.save(folder / "x.npy", images)
            np.save(folder / "labels.npy", np.arange(4))
    recipe = Recipe.model_validate(
        {
            "run_dir": str(folder),
            "data": {
                "name": "array",
                "path": str(folder / "x.npy"),
                "labels": str(folder / "labels.npy"),
            },
            "adapter": {"name": "grid", "patch_size": [16, 16]},
            "standardization": {"mode": "fixed", "mean": 127.5, "std": 127.5},
            "model": {"size": "B"},
            "train": {
                "num_steps": 1,
                "batch_size": 4,
                "ema": [{"decay": 0.9999}, {"decay": 0.9996}],
            },
        }
    )
    data = open_data(recipe)
    patcher = make_patcher(recipe, data.train.info, take_statistics(recipe, data.train), device)
    network = materialize(make_network(recipe, data.train.info, patcher), device)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    parallelize(network, recipe.parallel, processes, device)
    state = TrainState(recipe, network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.update()
    return state


def measure(
    state: TrainState, folder: RunFolder, mode: str, num_saves: int, processes: Processes
) -> dict[str, Any]:
    """Seconds of the first save, and medians of the others."""
    settings = CheckpointSettings(mode=mode, keep_last=1)
    said: list[str] = []
    rounds = []
    with Saver(folder, settings, processes, state.device, said.append) as saver:
        for step in range(1, num_saves + 1):
            tensors = state.state_dict()
            processes.wait()
            start = time.perf_counter()
            saver.begin(tensors, step)
            called = time.perf_counter()
            saver.wait_until_staged()
            staged = time.perf_counter()
            saver.finish()
            rounds.append((called - start, staged - called, time.perf_counter() - start))
    assert not said, said
    names = ("call", "staging", "published_after")
    later = [statistics.median(values) for values in zip(*rounds[1:], strict=True)]
    return {
        "first": dict(zip(names, rounds[0], strict=True)),
        "later": dict(zip(names, later, strict=True)),
        "stall": later[0] + later[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--saves", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary one)")
    args = parser.parse_args()
    device = choose_device(args.device)
    with join_processes(on_gpu=device.type == "cuda") as processes:
        path = processes.from_first(lambda: Path(tempfile.mkdtemp(dir=args.folder)))
        folder = RunFolder(path)
        try:
            state = make_state(path, device, processes)
            for name in DESCRIPTION if processes.is_first else ():
                (path / name).write_text("of a benchmark")
            processes.wait()
            modes = ("process", "thread", "sync") if processes.count > 1 else ("thread", "sync")
            seconds = {mode: measure(state, folder, mode, args.saves, processes) for mode in modes}
        finally:
            if processes.is_first:
                shutil.rmtree(path)
        if not processes.is_first:
            return
        result = {
            "num_processes": processes.count,
            "num_parameters": sum(p.numel() for p in state.network.parameters()),
            "state_bytes": sum(
                tensor.nbytes for tensor in named_tensors(state.state_dict()).values()
            ),
            "seconds": seconds,
        }
    for mode, found in seconds.items():
        later = found["later"]
        print(f"{mode:8} stall {found['stall']:.2f} s, published {later['published_after']:.2f} s")
    print(write_result(f"save_{args.device}", result))


if __name__ == "__main__":
    main()
