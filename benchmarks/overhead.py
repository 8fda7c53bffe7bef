"""What the loop costs beside its gradients: python benchmarks/overhead.py [--device cuda]

`rawdiff train`, with all that runs in each step, against a bare loop of forward, backward, clipping
and a fused AdamW step on batches that lie prepared on the device. Network and batch are those of
train_step.py. Blocks of steps of both alternate in one process: what slows the machine down
slows both. Each block of `rawdiff train` writes one line of its log; no checkpoint is in any.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from measure import Parts, write_result
from train_step import recipe

from rawdiff.assemble import open_data, take_statistics
from rawdiff.model.network import Network
from rawdiff.parallel.processes import ALONE
from rawdiff.precision import autocast, choose_device
from rawdiff.recipe import CheckpointSettings, Recipe
from rawdiff.train.setup import set_up
from rawdiff.train.start import train
from rawdiff.train.state import make_optimizer
from rawdiff.train.watchdog import Watchdog

LIMIT = 0.03
NUM_BATCHES = 4
WARMUP_BLOCKS = 1


class BareLoop:
    """Forward, backward, clip, step; with the averages of the weights, or without."""

    def __init__(self, settings: Recipe, device: torch.device, *, averages: bool) -> None:
        data = open_data(settings)
        statistics = take_statistics(settings, data.train)
        training = set_up(
            settings, data, statistics, device, ALONE, lambda new: new.initialize(settings.seed)
        )
        self.settings, self.device = settings, device
        self.network: Network = training.state.network.train()
        self.optimizer = make_optimizer(self.network, settings.train)
        self.parameters = list(self.network.parameters())
        averaged = settings.train.ema if averages else ()
        self.averages = [[p.detach().clone() for p in self.parameters] for _ in averaged]
        batches = training.open_batches()
        prepared = [training.objective.prepare(next(batches)) for _ in range(NUM_BATCHES)]
        self.batches = cycle([(batch, training.objective.add_noise(batch)) for batch in prepared])

    def step(self) -> None:
        batch, noised = next(self.batches)
        with autocast(self.settings.train.precision, self.device):
            x_pred = self.network(noised.z_t, noised.t, batch.told_label)
        bound = (1 - noised.t[:, None, None]).clamp(min=0.05)
        loss = ((x_pred - batch.patches.x) / bound).square().mean()  # the v-loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        weights = [p.detach() for p in self.parameters]
        for average in self.averages:
            torch._foreach_lerp_(average, weights, 1e-4)


class Alternation:
    """Blocks of `rawdiff train`, and between them as many steps of the bare loops."""

    def __init__(self, bare: dict[str, BareLoop], parts: Parts, num_steps: int) -> None:
        self.bare, self.parts, self.num_steps = bare, parts, num_steps
        self.block = parts.time("rawdiff")

    def run(self, settings: Recipe) -> None:
        begins = Watchdog.begins

        def begins_or_pauses(watchdog: Watchdog, phase: str, step: int) -> None:
            """The loop says here that it turns to its next step."""
            if phase == "data" and (step - 1) % self.num_steps == 0:
                self._pause(step - 1)
            begins(watchdog, phase, step)

        Watchdog.begins = begins_or_pauses  # type: ignore[method-assign]
        try:
            train(settings, say=lambda _: None)
        finally:
            Watchdog.begins = begins  # type: ignore[method-assign]

    def _pause(self, step: int) -> None:
        if step:
            self.block.__exit__(None, None, None)
        if step == WARMUP_BLOCKS * self.num_steps:
            self.parts.seconds.clear()
        for name, loop in self.bare.items():
            with self.parts.time(name):
                for _ in range(self.num_steps):
                    loop.step()
        self.block = self.parts.time("rawdiff")
        self.block.__enter__()


def compare(seconds: dict[str, list[float]], bare: str) -> dict[str, float]:
    """How much longer a step of `rawdiff train` takes: of medians, and quartiles of the rounds."""
    ratios = [a / b - 1 for a, b in zip(seconds["rawdiff"], seconds[bare], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"overhead": medians["rawdiff"] / medians[bare] - 1, "low": low, "high": high}


def measure(folder: Path, device: torch.device, num_blocks: int, num_steps: int) -> dict[str, Any]:
    settings = recipe(
        folder,
        device.type,
        num_steps=(WARMUP_BLOCKS + num_blocks) * num_steps + 1,  # the checkpoint comes after all
        log_every=num_steps,
    )
    settings = settings.model_copy(
        update={"checkpoint": CheckpointSettings(every_steps=settings.train.num_steps)}
    )
    bare = {
        "bare": BareLoop(settings, device, averages=False),
        "bare_with_averages": BareLoop(settings, device, averages=True),
    }
    parts = Parts(device)
    Alternation(bare, parts, num_steps).run(settings)
    seconds = dict(parts.seconds)
    for name in bare:
        seconds[name] = seconds[name][:num_blocks]  # one more begins after the last block
    return {
        "num_blocks": num_blocks,
        "steps_a_block": num_steps,
        "step_ms": {
            name: 1e3 * statistics.median(values) / num_steps for name, values in seconds.items()
        },
        "over": {name: compare(seconds, name) for name in bare},
        "block_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10, help="of a block; one writes the log")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), choose_device(args.device), args.blocks, args.steps)
    for name, milliseconds in result["step_ms"].items():
        print(f"{name:20s} {milliseconds:8.2f} ms a step")
    for name, found in result["over"].items():
        spread = f"quartiles {found['low']:.2%} to {found['high']:.2%}"
        print(f"over {name:20s} {found['overhead']:.2%} ({spread})")
    result["under_3_percent"] = {
        name: found["overhead"] < LIMIT for name, found in result["over"].items()
    }
    print(write_result(f"overhead_{args.device}", result))


if __name__ == "__main__":
    main()
