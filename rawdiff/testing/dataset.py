"""What a dataset promises."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rawdiff import philox
from rawdiff.adapter import Adapter, GridAdapter
from rawdiff.assemble import describe_info, read_description
from rawdiff.conditions import spread
from rawdiff.data.dataset import Batch, DataInfo, Dataset, Sample, collate, wrong_info
from rawdiff.data.loading import Subset, unlike
from rawdiff.data.patcher import Patcher
from rawdiff.data.statistics import measure
from rawdiff.errors import UserError
from rawdiff.grid import PatchGrid
from rawdiff.plugins import Kind, plugins
from rawdiff.testing import reading
from rawdiff.testing.adapter import check_adapter
from rawdiff.testing.promise import (
    BrokenPromiseError,
    Note,
    Promise,
    Verdict,
    judge,
    require_kept,
)

NUM_READ = 32  # samples that are looked at, spread evenly
NUM_TOGETHER = 4  # of those that are augmented, rendered and cut
SPEED_SECONDS = 1.0
FILL_VALUES = (9.969209968386869e36, 1e20, -9999.0)
"""Of NetCDF, of climate models, of tables: what files say for missing."""
LOST = 1e-3  # of a channel's spread, by standardizing and back


@dataclass(frozen=True)
class Case:
    """A dataset, and the adapter that cuts its samples, if that is known."""

    dataset: Dataset
    adapter: Adapter | None

    @cached_property
    def info(self) -> DataInfo:
        return self.dataset.info

    @cached_property
    def indices(self) -> list[int]:
        """The first, the last, and some between them."""
        last = len(self.dataset) - 1
        return sorted({*spread(NUM_READ - 1, len(self.dataset)), last})

    @cached_property
    def samples(self) -> list[Sample]:
        return [self.dataset[index] for index in self.indices]

    @cached_property
    def batch(self) -> Batch:
        """A few samples as they are stored."""
        return collate(self.samples[:NUM_TOGETHER], self.indices[:NUM_TOGETHER])

    @cached_property
    def learned(self) -> Batch:
        """All samples that are looked at, as they are learned."""
        return next(Subset(self.dataset, self.indices).batches(len(self.indices)))


def check_dataset(dataset: Dataset, adapter: Adapter | None = None) -> None:
    """Raise BrokenPromiseError unless samples are what `info` says, everywhere and each time.

    Some samples are read, spread over the dataset, also by workers and by a process of its own.
    With the adapter that is to cut them, it is checked on them, too.
    """
    require_kept(judge_dataset(dataset, adapter), type(dataset).__name__)


def judge_dataset(dataset: Dataset, adapter: Adapter | None = None) -> list[Verdict]:
    """A verdict for each promise, with what was measured."""
    return judge(PROMISES, Case(dataset, adapter))


def _info(case: Case) -> Iterator[str]:
    info = case.info
    if wrong := [*wrong_info(info)]:
        yield from wrong
        return
    found: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("writers", (info.writer,)),
        ("evaluators", info.evaluators),
    )
    for kind, names in found:
        known = [plugin.name for plugin in plugins(kind)]
        for name in names:
            if name not in known:
                yield f"`{name}` is none of the {kind} that are installed"
    try:
        same = read_description(describe_info(info, None)) == info
    except (TypeError, ValueError, AttributeError) as error:
        yield f"cannot be kept with a run ({error}): use str, int, float and tuples of them"
        return
    if not same:
        yield "changes when it is kept with a run: use str, int, float and tuples of them"
    if case.dataset.info != info:
        yield "`info` must be the same each time"


def _length(case: Case) -> Iterator[str]:
    if not len(case.dataset):
        yield "there are no samples"
    elif len(case.dataset) != len(case.dataset):
        yield "`len` must be the same each time"


def _samples(case: Case) -> Iterator[str]:
    first = case.samples[0]
    for index, sample in zip(case.indices, case.samples, strict=True):
        if wrong := unlike(sample, case.info):
            yield f"sample {index} {wrong}; correct the sample or `info`"
            return
        if sample.x.dtype != first.x.dtype:
            yield f"sample {index} has dtype {sample.x.dtype}, the first one {first.x.dtype}"
            return
    try:
        collate(case.samples, case.indices)
    except UserError as error:
        yield str(error)


def _missing(case: Case) -> Iterator[str]:
    limits = case.info.value_range
    for index, sample in zip(case.indices, case.samples, strict=True):
        for name in ("x", "context", "scalars"):
            values = getattr(sample, name)
            if values is None or np.asarray(values).dtype.kind != "f":
                continue
            if np.isinf(values).any():
                yield f"`{name}` of sample {index} has infinite values; NaN marks what is missing"
                return
            rest = np.abs(values[~np.isin(values, np.asarray(FILL_VALUES, values.dtype))])
            for fill in FILL_VALUES:
                share = float((values == np.asarray(fill, values.dtype)).mean())
                if share and np.nanmax(rest, initial=0) < abs(fill) / 10:
                    yield (
                        f"`{name}` of sample {index} holds {fill:g} in {share:.1%} of its values, "
                        "which reads like a mark for missing ones; give NaN there"
                    )
                    return
        if limits and bool(((sample.x < limits[0]) | (sample.x > limits[1])).any()):
            yield f"sample {index} has values outside of `value_range` {limits}"
            return


def _again(case: Case) -> Iterator[str]:
    expected = [reading.digest(sample) for sample in case.samples]
    backwards = [reading.digest(case.dataset[index]) for index in reversed(case.indices)]
    together = [reading.digest(sample) for sample in case.dataset.get_batch(case.indices)]
    for how, found in (("read again", backwards[::-1]), ("from `get_batch`", together)):
        if other := [i for i, a, b in zip(case.indices, expected, found, strict=True) if a != b]:
            yield (
                f"sample {other[0]} {how} is another: make it of the index alone, random numbers "
                "from a seed that is made of it; random changes belong into `augment`"
            )
            return


def _standardized(case: Case) -> Iterator[str]:
    """What standardizing, in float32, leaves of the differences between samples."""
    statistics, shape = measure([case.learned]), case.learned.x.shape[1:]
    single = GridAdapter(patch_size=(1,) * (len(shape) - 1))
    patcher = Patcher(single, statistics, PatchGrid(single.axes(shape, {})))
    x = case.learned.x
    lost = (patcher.destandardize(patcher.standardize(x)).double() - x.double()).abs()
    worst = lost.nan_to_num(0.0).transpose(0, 1).flatten(1).max(1).values
    for name, mean, std, most in zip(
        case.info.channels, statistics.x.mean, statistics.x.std, worst, strict=True
    ):
        if not bool(most < LOST * std):
            yield (
                f"channel `{name}`: mean {float(mean):g} and spread {float(std):g}; float32 does "
                "not keep such small differences. Subtract what samples have in common"
            )


def _augmented(case: Case) -> Iterator[str]:
    yield from _each_by_itself(
        case.batch, lambda batch: case.dataset.augment(batch, _draw_for(batch.index)), "augment"
    )
    found = case.dataset.augment(case.batch, _draw_for(case.batch.index))
    if found.x.shape != case.batch.x.shape:
        yield f"`augment` makes {list(found.x.shape)} of {list(case.batch.x.shape)}"


def _rendered(case: Case) -> Iterator[str]:
    yield from _each_by_itself(case.batch, case.dataset.render, "render")
    if case.learned.x.shape[1:] != case.info.shape:
        yield (
            f"samples are learned as {list(case.learned.x.shape[1:])}, but `info.shape` is "
            f"{case.info.shape}"
        )


def _each_by_itself(batch: Batch, function: Callable[[Batch], Batch], name: str) -> Iterator[str]:
    whole, again = function(batch), function(batch)
    if not _alike(whole.x, again.x, 0.0):
        yield f"`{name}` must give the same each time; random numbers come from `draw` alone"
    elif not _alike(whole.x, torch.cat([function(one).x for one in batch.split(1)]), 1e-4):
        yield f"what `{name}` makes of a sample must not depend on the others in its batch"


def _alike(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return a.shape == b.shape and torch.allclose(
        a.double(), b.double(), rtol=tolerance, atol=tolerance, equal_nan=True
    )


def _draw_for(index: Tensor) -> Callable[[int], Tensor]:
    """As in training: numbers of each sample, one after another."""
    num_drawn = 0

    def draw(num: int) -> Tensor:
        nonlocal num_drawn
        before, num_drawn = num_drawn, num_drawn + num
        return philox.uniform(0, philox.Stream.AUGMENT, index, num_drawn)[:, before:]

    return draw


def _cut(case: Case) -> Iterator[str]:
    if case.adapter is None:
        return
    info, adapter, batch = case.info, case.adapter, case.learned
    try:
        check_adapter(adapter, info.shape, info.coordinates)
    except BrokenPromiseError as error:
        yield str(error)
        return
    x = batch.x[:NUM_TOGETHER].float()
    if not _alike(adapter.unpatchify(adapter.patchify(x), info.shape), x, 0.0):
        yield "samples do not come back from their patches to the bit"
    grid = PatchGrid(adapter.axes(info.shape, info.coordinates))
    if batch.place is not None:
        positions = adapter.sample_positions(batch.place, info.place_names)
        expected = (len(batch), grid.num_patches, len(grid.axes))
        if positions is not None and tuple(positions.shape) != expected:
            yield f"`sample_positions` must be {list(expected)}, are {list(positions.shape)}"
        elif positions is not None and not bool(positions.isfinite().all()):
            yield "`sample_positions` must be finite; give patches without a place any number"
    yield Note(str(grid))


def _fast(case: Case) -> Iterator[str]:
    order = [case.indices[i % len(case.indices)] for i in range(0, 7 * 512, 7)]
    start, num = time.perf_counter(), 0
    while time.perf_counter() - start < SPEED_SECONDS and num < len(order):
        case.dataset.get_batch(order[num : num + NUM_TOGETHER])
        num += NUM_TOGETHER
    speed = num / (time.perf_counter() - start)
    rate = speed * case.samples[0].x.nbytes / 1e6
    yield Note(f"{speed:,.0f} samples a second ({rate:,.1f} MB/s) read by one process")


ONE = ("info", "length", "samples")
PROMISES: tuple[Promise[Case], ...] = (
    Promise("info", "says what samples hold, and can be kept", _info),
    Promise("length", "there are samples", _length),
    Promise("samples", "shapes and types are those of info", _samples, ("info", "length")),
    Promise("missing", "NaN and nothing else marks missing values", _missing, ONE),
    Promise("again", "a sample is a function of its index", _again, ONE),
    Promise("standardized", "float32 keeps the differences of samples", _standardized, ONE),
    Promise("augmented", "random changes are a function of draw", _augmented, ONE),
    Promise("rendered", "each sample by itself, in the shape of info", _rendered, ONE),
    Promise("cut", "the adapter cuts samples, and back to the bit", _cut, (*ONE, "rendered")),
    Promise(
        "copies",
        "comes back from a pickle and from its keys",
        lambda case: reading.copies(case.dataset),
        ONE,
    ),
    Promise(
        "workers",
        "worker processes read the same",
        lambda case: reading.by_workers(case.dataset, case.indices),
        ("again",),
    ),
    Promise(
        "elsewhere",
        "a new process reads the same",
        lambda case: reading.elsewhere(case.dataset, case.indices),
        ("again", "copies"),
    ),
    Promise("speed", "samples that are read in a second", _fast, ONE),
)
