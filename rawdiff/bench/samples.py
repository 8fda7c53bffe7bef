"""A few samples in memory, of which batches of any size are made: computing takes as long."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rawdiff.assemble import applied, sample_bytes
from rawdiff.data.dataset import Batch, Sample, collate
from rawdiff.data.loading import Subset
from rawdiff.data.statistics import StandardizationSettings, Statistics, measure

MAX_SAMPLES = 64
MAX_BYTES = 2**29
FEW = 4  # are read at a time


@dataclass(frozen=True)
class Samples:
    """Some samples of the training split; `seconds` is the time in which one was read."""

    train: Subset
    samples: Sequence[Sample]
    seconds: float
    pins: bool

    @classmethod
    def read(cls, train: Subset, *, at_most: int, patience: float, pins: bool) -> Samples:
        """At most so many; fewer where reading takes longer than `patience` in seconds."""
        found = train.get_batch([0])  # files are opened
        num_read, start = 0, time.perf_counter()
        limit = min(at_most, MAX_SAMPLES, len(train), MAX_BYTES // max(1, sample_bytes(found[0])))
        while not num_read or (len(found) < limit and time.perf_counter() - start < patience):
            positions = range(len(found), min(len(found) + FEW, len(train)))
            more = train.get_batch(positions or [0])
            num_read += len(more)
            found = [*found, *more]
        return cls(train, found, (time.perf_counter() - start) / num_read, pins)

    def statistics(self, settings: StandardizationSettings) -> Statistics:
        """As a run would measure them, of these samples alone."""
        batches = (self.train.render(self._batch([i], i)) for i in range(len(self.samples)))
        return applied(settings, measure(batches))

    def batches(self, size: int) -> Iterator[Batch]:
        """Endless ones, as the loader makes them; no two have the same places in the run."""
        kept = [self._batch(self._chosen(size, i), i * size) for i in range(2)]
        while True:
            yield from kept

    def _chosen(self, size: int, number: int) -> list[int]:
        return [i % len(self.samples) for i in range(number * size, (number + 1) * size)]

    def _batch(self, chosen: list[int], place: int) -> Batch:
        batch = collate([self.samples[i] for i in chosen], range(place, place + len(chosen)))
        return batch.pin_memory() if self.pins else batch
