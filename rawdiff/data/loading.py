"""Batches of a run, from any place on: the loader has no state that a checkpoint must keep."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch.utils import data as torch_data

from rawdiff.data.dataset import Batch, DataInfo, Dataset, Draw, Sample, collate
from rawdiff.data.order import SampleOrder
from rawdiff.errors import UserError
from rawdiff.plugins import described

REAL = "fiub"
"""Kinds of dtype that samples may have."""


class Subset:
    """Some samples of a dataset, in a given order, with the dataset's own info and augmentation."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    @property
    def info(self) -> DataInfo:
        return self.dataset.info

    def __len__(self) -> int:
        return len(self.indices)

    def get_batch(self, positions: Sequence[int]) -> list[Sample]:
        """Samples that are what the dataset says of itself; UserError for one that is not."""
        indices = [int(self.indices[i]) for i in positions]
        samples, info = self.dataset.get_batch(indices), self.info
        for index, sample in zip(indices, samples, strict=True):
            if wrong := unlike(sample, info):
                who = described("datasets", type(self.dataset))
                raise UserError(
                    f"Sample {index} of {who} {wrong}. Correct the dataset or its `info`."
                )
        return samples

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        return self.dataset.augment(batch, draw)

    def render(self, batch: Batch) -> Batch:
        return self.dataset.render(batch)

    def batches(self, batch_size: int, num_workers: int = 0) -> Iterator[Batch]:
        """All samples once, in their order and as they are learned; `index` counts them."""
        starts = range(0, len(self), batch_size)
        places = [list(range(i, min(i + batch_size, len(self)))) for i in starts]
        stored = _load(self, [(place, place) for place in places], num_workers)
        return (self.render(batch) for batch in stored)


def unlike(sample: Sample, info: DataInfo) -> str | None:
    """How a sample differs from what its dataset says of itself."""
    shape = info.shape if info.stored_shape is None else info.stored_shape
    if not isinstance(sample, Sample) or not isinstance(sample.x, np.ndarray):
        return "must be a Sample with a NumPy array as `x`"
    if sample.x.dtype.kind not in REAL:
        return f"has `x` of dtype {sample.x.dtype}; it must be of real numbers"
    if sample.x.shape != shape:
        return f"has shape {sample.x.shape} instead of {shape}"
    if not isinstance(sample.label, int | np.integer | None):
        return f"has label {sample.label!r}; it must be a whole number, or None"
    labelled = sample.label is not None and 0 <= sample.label < info.num_classes
    if labelled != (info.num_classes > 0) or (sample.label is not None and not labelled):
        return f"has label {sample.label}, but there are {info.num_classes} classes"
    if sample.scalars is not None and np.ndim(sample.scalars) != 1:
        return f"has `scalars` {sample.scalars!r:.60}; they must be an array [S]"
    num_scalars = 0 if sample.scalars is None else len(sample.scalars)
    if num_scalars != len(info.scalar_names):
        return f"has {num_scalars} scalars instead of {len(info.scalar_names)}"
    if wrong := _context_unlike(sample, info):
        return wrong
    num_places = 0 if sample.place is None else len(sample.place)
    if num_places != len(info.place_names):
        return f"has {num_places} rows in `place` instead of {len(info.place_names)}"
    return None


def _context_unlike(sample: Sample, info: DataInfo) -> str | None:
    shape = () if sample.context is None else sample.context.shape
    if info.stored_context_shape is not None:
        same = shape == info.stored_context_shape
        return None if same else f"has context {shape} instead of {info.stored_context_shape}"
    num_channels = shape[0] if shape else 0
    if num_channels != info.num_context_channels:
        return f"has {num_channels} channels of context instead of {info.num_context_channels}"
    return None


class _Batches(torch_data.Dataset[Batch | UserError]):
    """What a worker does: positions in the subset and places in the run to one collated batch."""

    def __init__(self, subset: Subset) -> None:
        self.subset = subset

    def __getitem__(self, key: tuple[list[int], list[int]]) -> Batch | UserError:
        """A user's mistake is handed over as it is: a worker would wrap it in a trace."""
        positions, places = key
        try:
            return collate(self.subset.get_batch(positions), places)
        except UserError as error:
            return error


@dataclass(frozen=True)
class Share:
    """Which of `count` equal parts of every batch, in their order."""

    rank: int = 0
    count: int = 1


class _RunSampler(torch_data.Sampler[tuple[list[int], list[int]]]):
    def __init__(self, order: SampleOrder, batch_size: int, start: int, share: Share) -> None:
        self.order, self.batch_size, self.start, self.share = order, batch_size, start, share

    def __iter__(self) -> Iterator[tuple[list[int], list[int]]]:
        size = self.batch_size // self.share.count
        for start in count(self.start + self.share.rank * size, self.batch_size):
            places = list(range(start, start + size))
            yield [self.order[place] for place in places], places


def run_batches(
    subset: Subset,
    *,
    seed: int,
    batch_size: int,
    start: int,
    num_workers: int,
    share: Share = Share(),
) -> Iterator[Batch]:
    """Endless batches of a run, from its sample number `start` on; of each, one process's share.

    `batch_size` counts the samples of all shares.
    """
    if not len(subset):
        raise UserError("There are no samples to train on. Give `data.path` a folder with some.")
    order = SampleOrder(len(subset), seed)
    return _load(subset, _RunSampler(order, batch_size, start, share), num_workers)


def _leave_stopping_to_the_parent(worker: int) -> None:
    """A signal to the whole process group must not take the batches away before the last save."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _load(
    subset: Subset,
    sampler: torch_data.Sampler[tuple[list[int], list[int]]] | list[tuple[list[int], list[int]]],
    num_workers: int,
) -> Iterator[Batch]:
    loader = torch_data.DataLoader(
        _Batches(subset),
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_leave_stopping_to_the_parent,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch
