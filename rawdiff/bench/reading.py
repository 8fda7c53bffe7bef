"""How fast the loader gives samples, by itself and beside the steps."""

from __future__ import annotations

import time

from rawdiff.bench.stand import wait_for
from rawdiff.data.loading import Subset, run_batches
from rawdiff.train.loop import Loop


def loader_rate(
    train: Subset, share: int, num_workers: int, seconds: float, sample_seconds: float
) -> float:
    """Samples a second of a loader that does nothing else, measured for about so long.

    In batches of a process's share, or smaller ones where a sample takes so long to read that
    there would be few.
    """
    num_least = 2 * max(num_workers, 1)
    in_time = seconds * max(num_workers, 1) / max(sample_seconds, 1e-9)
    size = max(1, min(share, int(in_time / (2 * num_least))))
    batches = run_batches(train, seed=0, batch_size=size, start=0, num_workers=num_workers)
    next(batches)  # files are opened, workers start
    num_batches, start = 0, time.perf_counter()
    while num_batches < num_least or time.perf_counter() - start < seconds:
        next(batches)
        num_batches += 1
    return num_batches * size / (time.perf_counter() - start)


def wait_beside_steps(loop: Loop, num_steps: int) -> float:
    """Seconds that a step waits for its batch, while the loader reads as the recipe says."""
    batches = loop.training.open_batches()
    loop.train_step(next(batches))
    waited = 0.0
    for _ in range(num_steps):
        wait_for(loop.state.device)
        start = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - start
        loop.train_step(batch)
    return waited / num_steps
