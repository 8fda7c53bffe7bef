"""Steps of the loop, timed as a whole and in parts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch

from rawdiff.bench.parts import Parts, surrounded
from rawdiff.bench.stand import wait_for
from rawdiff.data.dataset import Batch
from rawdiff.train.loop import Loop

STEP = "rest"  # what of a step is in none of its parts
ONCE_A_STEP = ("clip", "guard", "optimizer", "ema", "metrics", STEP)
"""Parts that take as long whatever the batch; the others come with each micro-batch."""
NUM_BLOCKS = 5


def functions(loop: Loop) -> list[tuple[Any, str, str]]:
    """The functions that make up a step, and what each is called in tables."""
    training, state, objective = loop.training, loop.state, loop.training.objective
    return [
        (objective, "weight", "weights"),
        (Batch, "to", "copy"),
        (objective.train, "augment", "augment"),
        (objective.train, "render", "render"),
        (objective, "prepare", "patches"),
        (objective, "add_noise", "noise"),
        (objective, "errors", "forward"),
        (torch.autograd, "backward", "backward"),
        (training, "clip_gradients", "clip"),
        (state.guard, "judge", "guard"),
        (state, "update", "optimizer"),
        *((ema, "update", "ema") for ema in state.emas),
        (state.window, "add", "metrics"),
    ]


def time_parts(loop: Loop, batches: Iterator[Batch], num_steps: int) -> dict[str, float]:
    """Seconds of each part of a step, the middle ones of `num_steps`; they add up to the step.

    `data` is the time in which `batches` give one.
    """
    parts = Parts(loop.state.device)
    with surrounded(functions(loop), parts.time):
        for _ in range(num_steps):
            with parts.time(STEP):
                with parts.time("data"):
                    batch = next(batches)
                loop.train_step(batch)
    return parts.medians()


def time_steps(loop: Loop, batches: Iterator[Batch], num_steps: int) -> float:
    """Seconds of a step among others, where nobody waits for the device in between."""
    blocks = []
    for size in block_sizes(num_steps):
        wait_for(loop.state.device)
        start = time.perf_counter()
        for _ in range(size):
            loop.train_step(next(batches))
        wait_for(loop.state.device)
        blocks.append((time.perf_counter() - start) / size)
    return statistics.median(blocks)


def block_sizes(num_steps: int) -> list[int]:
    """Steps in up to five blocks of about the same size."""
    count = min(NUM_BLOCKS, num_steps)
    return [num_steps // count + (i < num_steps % count) for i in range(count)]


def in_whole_step(parts: dict[str, float], num_measured: int, num_all: int) -> dict[str, float]:
    """Parts of a step of so many micro-batches, of those of a step of `num_measured`."""
    return {
        name: seconds * (1.0 if name in ONCE_A_STEP else num_all / num_measured)
        for name, seconds in parts.items()
    }
