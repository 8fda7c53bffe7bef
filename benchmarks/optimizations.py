"""Each optimization of a step with and without, in one run: python benchmarks/optimizations.py

Speed: the network and images of published.py, steps with and without in turn. Loss: 200 steps of
the demo's digits with and without, from the same seed, beside runs of other seeds: how far two
curves lie apart is the mean difference of log(loss), of the means over 20 steps. An optimization
whose curves lie nearer than the nearest two seeds has not changed what is learned. On a GPU
(--device cuda) with JiT-B/16. Muon has optimizers.py, reading has feeding.py.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from measure import write_result
from published import CASES, recipe, time_in_turn
from training import losses, make_training, steps_of

from rawdiff.model.attention import never_held
from rawdiff.precision import choose_device
from rawdiff.recipe_file import load_recipe
from rawdiff.train import objective, state
from rawdiff.train.state import StepSums
from rawdiff.train.step import Training

NUM_STEPS, WINDOW, SEEDS = 200, 20, (0, 1, 2)
ALONE_WAYS: dict[str, Any] = {"compile": False, "precision": "float32"}
Around = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Optimization:
    """What it is with and without: keys of the recipe, or a patch for what has no key."""

    name: str
    keys: dict[str, Any] = field(default_factory=dict)
    keys_without: dict[str, Any] = field(default_factory=dict)
    without: Around = nullcontext


@contextmanager
def not_fused() -> Iterator[None]:
    """AdamW by torch's loops, which cannot leave a step out."""

    def make(*args: Any, fused: bool, **keys: Any) -> torch.optim.AdamW:
        return ADAMW(*args, fused=False, **keys)

    def take(optimizer: torch.optim.AdamW, taken: torch.Tensor) -> None:
        optimizer.step()

    with patch("torch.optim.AdamW", make), patch.object(state, "take_step", take):
        yield


@contextmanager
def waiting() -> Iterator[None]:
    """The host waits for the loss in each step."""
    update = Training.update

    def update_and_wait(self: Training, sums: StepSums, grad_norm: torch.Tensor) -> None:
        update(self, sums, grad_norm)
        float(sums.loss)

    with patch.object(Training, "update", update_and_wait):
        yield


ADAMW = torch.optim.AdamW
BFLOAT16 = {"precision": "bfloat16"}
OPTIMIZATIONS = [
    Optimization("parallel.compile", {"compile": True}),
    Optimization("parallel.compile in bfloat16", {"compile": True} | BFLOAT16, BFLOAT16),
    Optimization(
        "noise and loss compiled, too",
        {"compile": True},
        {"compile": True},
        lambda: patch.object(objective, "compiled", lambda function: function),
    ),
    Optimization("train.precision: bfloat16", BFLOAT16),
    Optimization(
        "attention with held scores (CPU, bfloat16)",
        BFLOAT16,
        BFLOAT16,
        never_held,
    ),
    Optimization("fused AdamW", without=not_fused),
    Optimization("no waiting for the loss", without=waiting),
    Optimization("model.swiglu_multiple: 64", {}, {"model": {"swiglu_multiple": 1}}),
    Optimization("parallel.activation_checkpoint", {"recomputes": True}),
]


def within(around: Around, step: Callable[[], object]) -> Callable[[], object]:
    def inside() -> None:
        with around():
            step()

    return inside


def measure_speed(
    one: Optimization, folder: Path, case: dict[str, Any], device: torch.device, rounds: int
) -> dict[str, float]:
    steps: dict[str, Callable[[], object]] = {}
    for name, keys, around in (
        ("with", one.keys, nullcontext),
        ("without", one.keys_without, one.without),
    ):
        with around():
            changes = ALONE_WAYS | keys
            training = make_training(recipe(folder, case, device.type, **changes), device)
            step = steps_of(training)
        steps[name] = within(around, step)
    return time_in_turn(steps, device, rounds, 2)


def train(keys: dict[str, Any], around: Around, seed: int, device: torch.device) -> list[float]:
    """The loss of each step on the digits."""
    changes = ALONE_WAYS | keys
    train_keys = {"batch_size": 32, "warmup_samples": 640, "device": device.type}
    overrides = [f"train.{key}={value}" for key, value in train_keys.items()]
    overrides += [f"train.precision={changes['precision']}", f"seed={seed}"]
    overrides += [f"parallel.compile={changes['compile']}"]
    overrides += [f"parallel.activation_checkpoint={changes.get('recomputes', False)}"]
    overrides += [f"model.{key}={value}" for key, value in changes.get("model", {}).items()]
    with around():
        training = make_training(load_recipe("demo", overrides), device)
        return losses(training, NUM_STEPS)


def distance(a: list[float], b: list[float]) -> float:
    """The mean difference of the logarithms of two curves, in windows of steps."""
    windows = [slice(i, i + WINDOW) for i in range(0, NUM_STEPS, WINDOW)]
    logs = [torch.tensor([statistics.mean(c[w]) for w in windows]).log() for c in (a, b)]
    return float((logs[0] - logs[1]).abs().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    device = choose_device(args.device)
    case = CASES["small" if device.type == "cpu" else "B/16"]
    curve = functools.cache(
        lambda seed: train({}, nullcontext, seed, device)  # several are compared with it
    )
    pairs = itertools.combinations(SEEDS, 2)
    seeds = min(distance(curve(a), curve(b)) for a, b in pairs)
    print(f"the nearest two seeds lie {seeds:.4f} apart in log(loss)")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for one in OPTIMIZATIONS:
            torch.compiler.reset()
            seconds = measure_speed(one, Path(folder), case, device, args.rounds)
            torch.compiler.reset()
            found = train(one.keys, nullcontext, 0, device)
            plain = not one.keys_without and one.without is nullcontext
            without = curve(0) if plain else train(one.keys_without, one.without, 0, device)
            row = {
                "name": one.name,
                "seconds": seconds,
                "ratio": seconds["without"] / seconds["with"],
                "loss_distance": distance(found, without),
                "within_seeds": distance(found, without) < seeds,
                "curves": {
                    name: [statistics.mean(c[i : i + WINDOW]) for i in range(0, NUM_STEPS, WINDOW)]
                    for name, c in (("with", found), ("without", without))
                },
            }
            rows.append(row)
            print(
                f"{one.name:44s} {row['ratio']:.2f} times as fast  "
                f"log(loss) {row['loss_distance']:.1e} apart",
                flush=True,
            )
            result = {"rows": rows, "nearest_seeds": seeds, "steps_a_point": WINDOW}
            path = write_result(f"optimizations_{args.device}", result)
    print(path)


if __name__ == "__main__":
    main()
