"""Where the time of a training step goes: python benchmarks/train_step.py [--device cuda]

The steps of the loop of `rawdiff train`, timed as `rawdiff bench` times them: width 256, depth 4,
4 heads, 64 x 64 RGB, patches of 8, bottleneck 64, 8 in-context patches, batch 32, two EMAs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import write_result

from rawdiff.assemble import open_data, take_statistics
from rawdiff.bench.stand import open_loop, scratch_folder
from rawdiff.bench.steps import time_parts
from rawdiff.parallel.processes import ALONE
from rawdiff.precision import choose_device
from rawdiff.recipe import Recipe

LIMIT = 0.05  # of a step, for every part but forward and backward


def recipe(folder: Path, device: str, **train: Any) -> Recipe:
    """With its data in a folder; `train` are further settings of that name."""
    images = np.random.default_rng(0).integers(0, 256, (512, 3, 64, 64), dtype=np.uint8)
    np.save(folder / "x.npy", images)
    np.save(folder / "labels.npy", np.arange(512) % 10)
    return Recipe.model_validate(
        {
            "run_dir": str(folder / "run"),
            "data": {
                "name": "array",
                "path": str(folder / "x.npy"),
                "labels": str(folder / "labels.npy"),
            },
            "adapter": {"name": "grid", "patch_size": [8, 8]},
            "standardization": {"mode": "fixed", "mean": 127.5, "std": 127.5},
            "model": {
                "width": 256,
                "depth": 4,
                "heads": 4,
                "bottleneck": 64,
                "in_context_len": 8,
                "in_context_start": 1,
            },
            "train": {
                "num_steps": 1000,
                "batch_size": 32,
                "precision": "float32",
                "device": device,
                "ema": [{"decay": 0.9999}, {"power": 0.1}],
                **train,
            },
        }
    )


def measure(settings: Recipe, num_steps: int) -> dict[str, Any]:
    device = choose_device(settings.train.device)
    data = open_data(settings)
    statistics = take_statistics(settings, data.train)
    with (
        scratch_folder(settings.run_dir, ALONE) as folder,
        open_loop(settings, data, statistics, device, ALONE, folder) as loop,
    ):
        batches = loop.training.open_batches()
        time_parts(loop, batches, 3)  # the first steps warm up
        parts = time_parts(loop, batches, num_steps)
        flops = loop.log.cost.train_flops * settings.train.batch_size
    return _summary(parts, flops)


def _summary(parts: dict[str, float], flops: int) -> dict[str, Any]:
    step = sum(parts.values())
    shares = {name: seconds / step for name, seconds in parts.items()}
    slow = [n for n, share in shares.items() if share > LIMIT and n not in ("forward", "backward")]
    return {
        "step_ms": 1e3 * step,
        "samples_per_second": 32 / step,
        "model_gflops": flops / step / 1e9,
        "share": shares,
        "over_5_percent": slow,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(recipe(Path(folder), args.device), args.steps)
    for name, share in result["share"].items():
        print(f"{name:10s} {share:7.2%}")
    print(f"{result['step_ms']:.1f} ms a step, {result['samples_per_second']:.1f} samples/s")
    print("over 5 %:", ", ".join(result["over_5_percent"]) or "none")
    print(write_result(f"train_step_{args.device}", result))


if __name__ == "__main__":
    main()
