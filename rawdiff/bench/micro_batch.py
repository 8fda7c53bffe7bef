"""Which micro-batch: the largest that fits a GPU, the fastest on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from rawdiff.bench.measured import Tried
from rawdiff.parallel.batch import largest_micro_batch

NUM_ON_CPU = 4  # sizes that are tried there


def sizes_of(share: int) -> list[int]:
    """The micro-batches that cut a process's share of the batch into equal parts, rising."""
    return [size for size in range(1, share + 1) if share % size == 0]


def find_largest(
    sizes: Sequence[int],
    first: int,
    fits: Callable[[int], bool],
    goes_on: Callable[[], bool] = lambda: True,
) -> int | None:
    """The largest of the rising `sizes` that fits, or None: by doubling, then by halving the rest.

    `first` is tried first. Where it does not go on, the largest that is known to fit.
    """
    low, high, place = -1, len(sizes), sizes.index(first)
    while high - low > 1 and goes_on():
        if fits(sizes[place]):
            low = place
        else:
            high = place
        place = _next_place(sizes, low, high)
    return sizes[low] if low >= 0 else None


def _next_place(sizes: Sequence[int], low: int, high: int) -> int:
    """What to try where `low` fits (-1: nothing yet) and `high` does not (the end: all did)."""
    if high == len(sizes):
        doubled = (i for i in range(low + 1, high) if sizes[i] >= 2 * sizes[low])
        return next(doubled, high - 1)
    if low < 0:
        halved = (i for i in reversed(range(high)) if 2 * sizes[i] <= sizes[high])
        return next(halved, 0)
    return (low + high) // 2


def try_size(size: int, run: Callable[[int], Tried], recover: Callable[[], None]) -> Tried:
    """What `run` gives; where memory does not suffice, after `recover`, that it does not fit."""
    try:
        return run(size)
    except torch.OutOfMemoryError:
        pass  # what the error holds of the step must be gone before memory is freed
    recover()
    return Tried(size, fits=False)


def sizes_for_cpu(
    sizes: Sequence[int], own: int, seconds: Callable[[int], float], patience: float
) -> list[int]:
    """A few sizes by halves, the recipe's own first; only those that take at most `patience`.

    `seconds` says about how long a size takes. If all take longer, the smallest of all alone.
    """
    share = sizes[-1]
    halves = [largest_micro_batch(share, max(share >> i, 1)) for i in range(8)]
    chosen = [size for size in dict.fromkeys((own, *halves)) if seconds(size) <= patience]
    near = sorted(chosen, key=lambda size: abs(size - own) / max(size, own))[:NUM_ON_CPU]
    return near or [sizes[0]]
