"""AdamW and Muon side by side: python benchmarks/optimizers.py [--device cuda]

Loss: the demo's digits and its network at width 64, batches of 32, the same samples and noise for
both. Each trains at four learning rates, then at its best one with other seeds. Time: steps with
random gradients of a network of width 256 and depth 4, on a GPU of JiT-B/16 and L/16, in turn.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from measure import write_result
from training import losses, make_training

from rawdiff.assemble import make_network, make_patcher, materialize
from rawdiff.bench.parts import Parts
from rawdiff.data.statistics import fixed
from rawdiff.precision import choose_device
from rawdiff.recipe_file import load_recipe
from rawdiff.train.optimizer import make_optimizer, muon_cost, take_step

OPTIMIZERS = ("adamw", "muon")
RATES = (2e-3, 4e-3, 8e-3, 1.6e-2)
NETWORKS = {
    "cpu": {"width 256, depth 4": ("demo", "model.width=256")},
    "cuda": {"JiT-B/16": ("imagenet_jit_b16",), "JiT-L/16": ("imagenet_jit_l16",)},
}


def train(optimizer: str, rate: float, seed: int, num_steps: int, device: str) -> list[float]:
    """The loss of each step."""
    keys = {"optimizer": optimizer, "learning_rate": rate, "num_steps": num_steps}
    keys |= {"batch_size": 32, "warmup_samples": 640, "device": device}
    overrides = [f"train.{key}={value}" for key, value in keys.items()]
    recipe = load_recipe("demo", [*overrides, "model.width=64", f"seed={seed}"])
    return losses(make_training(recipe, choose_device(recipe.train.device)), num_steps)


def final_loss(losses: list[float]) -> float:
    """The mean over the last quarter."""
    return statistics.mean(losses[-(len(losses) // 4) :])


def compare_losses(num_steps: int, num_seeds: int, device: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in OPTIMIZERS:
        curves = {rate: train(name, rate, 0, num_steps, device) for rate in RATES}
        ends = {rate: final_loss(losses) for rate, losses in curves.items()}
        best = min(RATES, key=ends.__getitem__)
        runs = [curves[best]]
        runs += [train(name, best, seed, num_steps, device) for seed in range(1, num_seeds)]
        every = num_steps // 20 or 1
        result[name] = {
            "final_loss_by_rate": ends,
            "best_rate": best,
            "best_rate_is_at_the_edge": best in (RATES[0], RATES[-1]),
            "final_loss_by_seed": [final_loss(losses) for losses in runs],
            "curve": [
                statistics.mean(loss for run in runs for loss in run[i : i + every])
                for i in range(0, num_steps, every)
            ],
            "steps_a_point": every,
        }
    return result


def compare_times(
    recipe_name: str, overrides: list[str], num_rounds: int, device: torch.device
) -> dict[str, Any]:
    """Milliseconds of the optimizer in a step, and operations of Muon."""
    recipe = load_recipe(recipe_name, [f"train.device={device.type}", *overrides])
    info = recipe.data.info
    patcher = make_patcher(recipe, info, fixed(0, 1, info.shape), device)
    parts, taken, optimizers = Parts(device), torch.tensor(True, device=device), {}
    for name in OPTIMIZERS:
        network = materialize(make_network(recipe, info, patcher), device)
        network.initialize(0)
        for p in network.parameters():
            p.grad = torch.randn_like(p)
        settings = recipe.train.model_copy(update={"optimizer": name})
        optimizers[name] = make_optimizer(network, settings)
    for i in range(num_rounds + 2):
        if i == 2:
            parts.seconds.clear()  # the first rounds warm up
        for name, optimizer in optimizers.items():
            with parts.time(name):
                take_step(optimizer, taken)
    return {
        "milliseconds": {name: 1e3 * seconds for name, seconds in parts.medians().items()},
        "muon_gflop": muon_cost(network, settings, 1).flops / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    device = choose_device(args.device)
    times = {
        name: compare_times(recipe, overrides, args.rounds, device)
        for name, (recipe, *overrides) in NETWORKS[args.device].items()
    }
    for name, found in times.items():
        shown = ", ".join(f"{key} {ms:.2f} ms" for key, ms in found["milliseconds"].items())
        print(f"{name}: {shown}; Muon {found['muon_gflop']:,.1f} GFLOP")
    losses = compare_losses(args.steps, args.seeds, args.device)
    for name, found in losses.items():
        ends = ", ".join(f"{loss:.4f}" for loss in found["final_loss_by_seed"])
        rate, steps = found["best_rate"], args.steps
        print(f"{name:6s} best at {rate:g}; mean of the last quarter of {steps} steps: {ends}")
    result = {"num_steps": args.steps, "losses": losses, "times": times}
    print(write_result(f"optimizers_{args.device}", result))


if __name__ == "__main__":
    main()
