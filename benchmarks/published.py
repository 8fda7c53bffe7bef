"""Images a second of our step beside the published code's: python benchmarks/published.py

The published structure (published_structure.py) and ours train the same network on the same images
in one process, in turn, a round of steps each; what slows the machine down slows both. Ours reads
its batches through its loader, the published one gets them ready. On a CPU: width 384, depth 6,
256 patches and 32 in context, compiled and not, in float32 and bfloat16. On a GPU (--device
cuda): the sizes of the paper in bfloat16, compiled, with the share of the chip's peak (MFU).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import write_result
from published_structure import PublishedStep, same_function
from training import make_training, steps_of

from rawdiff.assemble import make_network
from rawdiff.model.network import Network
from rawdiff.model.transformer import Transformer
from rawdiff.precision import choose_device
from rawdiff.recipe import Recipe
from rawdiff.train.cost import measure_cost, peak_flops

NUM_CLASSES = 10
TOLERANCE = 1e-4  # of two networks that compute the same in float32
SMALL = {"width": 384, "depth": 6, "heads": 6, "bottleneck": 128, "in_context_start": 2}
CASES: dict[str, dict[str, Any]] = {
    "small": {"model": SMALL, "image": 128, "patch": 8, "batch": 16},
    "B/16": {"model": {"size": "B"}, "image": 256, "patch": 16, "batch": 256},
    "L/16": {"model": {"size": "L"}, "image": 256, "patch": 16, "batch": 128},
    "H/16": {"model": {"size": "H", "dropout": 0.0}, "image": 256, "patch": 16, "batch": 64},
    "H/32": {"model": {"size": "H", "dropout": 0.0}, "image": 512, "patch": 32, "batch": 64},
}


def recipe(folder: Path, case: dict[str, Any], device: str, **changes: Any) -> Recipe:
    """With random images in the folder.

    `changes` are `compile`, `precision`, and where need be `recomputes` and keys of `model`.
    """
    size, batch = case["image"], case["batch"]
    path = folder / f"x{size}.npy"
    if not path.exists():
        images = np.random.default_rng(0).integers(0, 256, (2 * batch, 3, size, size), np.uint8)
        np.save(path, images)
        np.save(folder / f"labels{size}.npy", np.arange(len(images)) % NUM_CLASSES)
    return Recipe.model_validate(
        {
            "run_dir": str(folder / "run"),
            "data": {
                "name": "array",
                "path": str(path),
                "labels": str(folder / f"labels{size}.npy"),
            },
            "adapter": {"name": "grid", "patch_size": [case["patch"]] * 2},
            "standardization": {"mode": "fixed", "mean": 127.5, "std": 127.5},
            "model": case["model"] | changes.get("model", {}),
            "train": {
                "num_steps": 10**6,
                "batch_size": batch,
                "device": device,
                "precision": changes["precision"],
                "ema": [{"decay": 0.9999}, {"decay": 0.9996}],
            },
            "parallel": {
                "compile": changes["compile"],
                "activation_checkpoint": changes.get("recomputes", False),
            },
        }
    )


def published_step(
    folder: Path, case: dict[str, Any], device: torch.device, precision: str, *, compiled: bool
) -> Callable[[], object]:
    """With an MLP of exactly the published width. AssertionError if it computes something else."""
    exact = {"model": {"swiglu_multiple": 1}, "precision": "float32", "compile": False}
    training = make_training(recipe(folder, case, device.type, **exact), device)
    network = training.state.network
    assert isinstance(network, Transformer)
    make_random(network)
    step = PublishedStep(network, autocast=precision == "bfloat16", compiled=compiled)
    error = same_function(network, step.network)
    assert error < TOLERANCE, f"the published structure computes something else: {error:.1e}"
    images = np.load(folder / f"x{case['image']}.npy")
    labels = np.arange(len(images)) % NUM_CLASSES
    size = case["batch"]
    parts = [slice(i, i + size) for i in range(0, len(images), size)]
    batches = cycle([(torch.from_numpy(images[p]), torch.from_numpy(labels[p])) for p in parts])
    return lambda: step(*next(batches), case["patch"])


@torch.no_grad()
def make_random(network: Network) -> None:
    """First weights are zero where a block or an output begins; these are not."""
    for i, parameter in enumerate(network.parameters()):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
        parameter += 0.02 * noise.to(parameter.device)


def time_in_turn(
    steps: dict[str, Callable[[], object]], device: torch.device, rounds: int, num_steps: int
) -> dict[str, float]:
    """Median seconds of a step of each, over rounds in which all take turns.

    On a CPU those of the process, so that what else the machine does counts less.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 1):
        for name, step in steps.items():
            for _ in range(2 if i == 0 else 0):  # compiles, and lets allocators settle
                step()
            _wait(device)
            start = clock()
            for _ in range(num_steps):
                step()
            _wait(device)
            if i:
                seconds[name].append((clock() - start) / num_steps)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def print_profile(title: str, step: Callable[[], object]) -> None:
    """The operators in which a step spends most time of its own, in all their calls."""
    with torch.profiler.profile() as profiler:
        step()
    table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12)
    print(f"{title}\n{table}")


def measure(
    folder: Path, name: str, device: torch.device, rounds: int, num_steps: int, *, profiles: bool
) -> list[dict[str, Any]]:
    """A row for each precision of a case."""
    case, rows = CASES[name], []
    peak = peak_flops(device)
    for precision in ("float32", "bfloat16") if device.type == "cpu" else ("bfloat16",):
        settings = {
            compiled: recipe(folder, case, device.type, compile=compiled, precision=precision)
            for compiled in (False, True)
        }
        steps: dict[str, Callable[[], object]] = {}
        for compiled, text in ((True, "compiled"), (False, "eager")):
            if device.type == "cuda" and not compiled:
                continue
            steps[f"published, {text}"] = published_step(
                folder, case, device, precision, compiled=compiled
            )
            training = make_training(settings[compiled], device)
            steps[f"rawdiff, {text}"] = steps_of(training)
        seconds = time_in_turn(steps, device, rounds, num_steps)
        if profiles:
            for key, step in steps.items():
                print_profile(f"{name} {precision} {key}", step)
        objective = training.objective
        network = make_network(settings[True], objective.train.info, objective.patcher)
        flops = measure_cost(network).train_flops * case["batch"]
        row: dict[str, Any] = {
            "case": name,
            "precision": precision,
            "batch_size": case["batch"],
            "images_per_second": {key: case["batch"] / value for key, value in seconds.items()},
            "ratio": {
                text: seconds[f"published, {text}"] / seconds[f"rawdiff, {text}"]
                for text in ("compiled", "eager")
                if f"rawdiff, {text}" in seconds
            },
        }
        if peak:
            row["mfu"] = {key: flops / value / peak for key, value in seconds.items()}
        rows.append(row)
        for key, rate in row["images_per_second"].items():
            mfu = f"  MFU {row['mfu'][key]:.1%}" if peak else ""
            print(f"{name} {precision:8s} {key:20s} {rate:8.1f} images/s{mfu}", flush=True)
        print("  ".join(f"{key}: {value:.2f} times" for key, value in row["ratio"].items()))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", nargs="*", choices=CASES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="of each in a round")
    parser.add_argument("--profile", action="store_true", help="where the time of a step goes, too")
    args = parser.parse_args()
    device = choose_device(args.device)
    names = args.cases or [case for case in CASES if (case == "small") == (device.type == "cpu")]
    with tempfile.TemporaryDirectory() as folder:
        rows: list[dict[str, Any]] = []
        for name in names:
            try:
                rows += measure(
                    Path(folder), name, device, args.rounds, args.steps, profiles=args.profile
                )
            except torch.OutOfMemoryError as error:  # the other cases are worth having
                rows.append({"case": name, "error": str(error)})
                print(f"{name} does not fit: {error}", flush=True)
    print(write_result(f"published_{args.device}", {"rows": rows}))


if __name__ == "__main__":
    main()
