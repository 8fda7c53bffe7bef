"""What benchmarks of training share: a run before its first step, without folder, and its steps."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rawdiff.assemble import open_data, take_statistics
from rawdiff.parallel.processes import ALONE
from rawdiff.recipe import Recipe
from rawdiff.train.setup import set_up
from rawdiff.train.step import Training


def make_training(settings: Recipe, device: torch.device) -> Training:
    data = open_data(settings)
    statistics = take_statistics(settings, data.train)
    return set_up(
        settings, data, statistics, device, ALONE, lambda new: new.initialize(settings.seed)
    )


def steps_of(training: Training) -> Callable[[], torch.Tensor]:
    """Call it for a step; returns the loss, for which nobody waits."""
    batches = training.open_batches()

    def step() -> torch.Tensor:
        sums = training.compute_gradients(next(batches))
        training.update(sums, training.clip_gradients())
        return sums.loss

    return step


def losses(training: Training, num_steps: int) -> list[float]:
    """Of each step."""
    step = steps_of(training)
    return torch.stack([step() for _ in range(num_steps)]).tolist()
