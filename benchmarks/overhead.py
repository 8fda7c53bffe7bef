"""What the loop costs beside its gradients: python benchmarks/overhead.py [--device cuda]

`rawdiff train`, with all that runs in each step, against a bare loop of forward, backward, clipping
and a fused AdamW step on batches that lie prepared on the device. Network and batch are those of
train_step.py. Blocks of steps of both alternate in one process: what slows the machine down
slows both. Each block of `rawdiff train` writes one line of its log; no checkpoint is in any
(save.py). Seconds of the clock on the wall, and of the CPU, which other programs spoil less.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from measure import write_result
from train_step import recipe

from rawdiff.assemble import open_data, take_statistics
from rawdiff.bench.parts import Parts
from rawdiff.model.network import Network
from rawdiff.parallel.processes import ALONE
from rawdiff.precision import autocast, choose_device
from rawdiff.recipe import CheckpointSettings, Recipe
from rawdiff.train.optimizer import make_optimizer
from rawdiff.train.setup import set_up
from rawdiff.train.start import train
from rawdiff.train.watchdog import Watchdog

NUM_BATCHES = 4


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
    """Blocks of `rawdiff train`, and between them as many steps of the bare loops.

    Each is timed by all of `clocks`.
    """

    def __init__(self, bare: dict[str, BareLoop], clocks: list[Parts], num_steps: int) -> None:
        self.bare, self.clocks, self.num_steps = bare, clocks, num_steps
        self.block = ExitStack()

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
        self.block.close()
        for name, loop in self.bare.items():
            with self._timed(name):
                for _ in range(self.num_steps):
                    loop.step()
        self.block = self._timed("rawdiff")

    def _timed(self, name: str) -> ExitStack:
        stack = ExitStack()
        for clock in self.clocks:
            stack.enter_context(clock.time(name))
        return stack


def compare(seconds: dict[str, list[float]], bare: str) -> dict[str, float]:
    """How much longer a block of `rawdiff train` takes than one of a bare loop.

    As the ratio of medians, and as the median and quartiles of the ratios in each round.
    """
    ratios = [a / b - 1 for a, b in zip(seconds["rawdiff"], seconds[bare], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    overhead = medians["rawdiff"] / medians[bare] - 1
    return {"overhead": overhead, "median": middle, "low": low, "high": high}


def measure(folder: Path, device: torch.device, num_blocks: int, num_steps: int) -> dict[str, Any]:
    settings = recipe(
        folder,
        device.type,
        num_steps=(1 + num_blocks) * num_steps + 1,  # the checkpoint comes after all blocks
        log_every=num_steps,
    )
    settings = settings.model_copy(
        update={"checkpoint": CheckpointSettings(every_steps=settings.train.num_steps)}
    )
    bare = {
        "bare": BareLoop(settings, device, averages=False),
        "bare_with_averages": BareLoop(settings, device, averages=True),
    }
    clocks = {"wall": Parts(device), "cpu": Parts(device, time.process_time)}
    Alternation(bare, list(clocks.values()), num_steps).run(settings)
    result: dict[str, Any] = {"num_blocks": num_blocks, "steps_a_block": num_steps}
    for name, parts in clocks.items():
        # The first block warms up; bare blocks have one more, after the last one of the loop.
        seconds = {part: values[1 : 1 + num_blocks] for part, values in parts.seconds.items()}
        result[name] = {
            "step_ms": {
                part: 1e3 * statistics.median(values) / num_steps
                for part, values in seconds.items()
            },
            "over": {part: compare(seconds, part) for part in bare},
            "block_seconds": seconds,
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10, help="of a block; one writes the log")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), choose_device(args.device), args.blocks, args.steps)
    for clock in ("wall", "cpu"):
        found = result[clock]
        milliseconds = "  ".join(f"{name} {value:.1f}" for name, value in found["step_ms"].items())
        print(f"{clock:4} ms a step: {milliseconds}")
        for name, over in found["over"].items():
            spread = (
                f"rounds {over['median']:.2%}, quartiles {over['low']:.2%} to {over['high']:.2%}"
            )
            print(f"{clock:4} over {name:20s} {over['overhead']:.2%} ({spread})")
    print(write_result(f"overhead_{args.device}", result))


if __name__ == "__main__":
    main()
