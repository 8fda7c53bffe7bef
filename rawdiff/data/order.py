"""In which order a run sees its samples: a function of the seed, and of nothing else."""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from rawdiff import philox


class SampleOrder:
    """Endless order over `num_samples` samples; each epoch is a permutation of its own.

    A place in the run counts all samples seen so far, so batches may straddle epochs: nothing is
    dropped at an epoch's end, and nothing comes twice within one.
    """

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples, self.seed = num_samples, seed
        self._epoch = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> Tensor:
        return philox.permutation(self.seed, philox.Stream.ORDER, epoch, self.num_samples)

    def __getitem__(self, place: int) -> int:
        """The dataset index of the sample at a place in the run."""
        epoch, position = divmod(place, self.num_samples)
        return int(self._epoch(epoch)[position])


def split(num_samples: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Dataset indices for training and held out, each ascending; at least one sample in both."""
    num_held_out = min(max(round(fraction * num_samples), 1), num_samples - 1)
    order = philox.permutation(seed, philox.Stream.SPLIT, 0, num_samples)
    return sorted(order[num_held_out:].tolist()), sorted(order[:num_held_out].tolist())
