"""The learning rate as a function of the samples seen, and of nothing else."""

from __future__ import annotations

import math

from rawdiff.recipe import TrainSettings


def learning_rate(train: TrainSettings, samples: int) -> float:
    """Rises linearly over the warm-up, then stays or falls to the end of the run.

    `samples` are those seen before the step, so that the first step of a warm-up moves a little:
    it counts its own batch.
    """
    seen = samples + train.batch_size
    if seen < train.warmup_samples:
        return train.learning_rate * seen / train.warmup_samples
    total = train.num_steps * train.batch_size
    progress = (seen - train.warmup_samples) / max(total - train.warmup_samples, 1)
    height = {
        "constant": 1.0,
        "linear": 1 - progress,
        "cosine": (1 + math.cos(math.pi * min(progress, 1.0))) / 2,
    }[train.schedule]
    low = train.final_learning_rate if train.schedule != "constant" else 0.0
    return low + (train.learning_rate - low) * max(height, 0.0)
