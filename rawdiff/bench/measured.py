"""What was measured; all else, advice too, is derived from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tried:
    """A micro-batch: samples a second of whole steps that are cut so, of one process.

    `peak_bytes` of memory are known on a GPU alone.
    """

    size: int
    samples_per_second: float | None = None
    peak_bytes: int | None = None
    fits: bool = True


@dataclass(frozen=True)
class Sizes:
    """How a step is cut on each process; `tried` are other ways, of which the largest fits.

    `own` is the recipe's micro-batch, `used` that of all numbers: another where the own one does
    not fit, or takes too long to be measured. `num_timed` of a step's micro-batches were timed.
    """

    batch: int
    share: int
    own: int
    used: int
    num_timed: int
    tried: Sequence[Tried] = ()

    @property
    def num_micro_batches(self) -> int:
        return -(-self.share // self.used)


@dataclass(frozen=True)
class Step:
    """Seconds of a step without reading, and of each of its parts; parts wait for one another.

    `wait` for data, None where there are none, comes in addition; it is one of the parts.
    """

    seconds: float
    parts: Mapping[str, float]
    wait: float | None = None

    @property
    def whole(self) -> float:
        return self.seconds + (self.wait or 0.0)


@dataclass(frozen=True)
class Reading:
    """Samples a second that the loader of one process gives alone, by its number of workers."""

    rates: Mapping[int, float]
    num_workers: int
    is_packed: bool
    num_cpus: int


@dataclass(frozen=True)
class Saving:
    """A checkpoint: how long training stands still, and how long until it is on the disk."""

    stall: float
    seconds: float
    num_bytes: int
    every_seconds: float
    """Between two of them, by the recipe and the measured step."""
    every_steps: int | None
    """As the recipe says; None: `auto`."""


@dataclass(frozen=True)
class Variant:
    """A key with another value than the recipe's: how many times as many samples a second.

    None with a `problem` where it cannot run.
    """

    key: str
    speedup: float | None
    problem: str = ""


@dataclass(frozen=True)
class Chip:
    """What a step is compared with: operations a second, and where the number is from."""

    name: str
    peak_flops: float
    source: str
    memory_bytes: int
    is_gpu: bool


@dataclass(frozen=True)
class Measured:
    """All of it, of one process of `num_processes`, in seconds and bytes."""

    chip: Chip
    precision: str
    num_processes: int
    num_steps: int
    train_flops: int
    """Operations of a step for each sample."""
    sizes: Sizes
    step: Step
    peak_bytes: int
    log_seconds: float
    log_every: int
    reading: Reading | None = None
    saving: Saving | None = None
    no_saving: str = ""
    """Why no checkpoint was measured."""
    variants: Sequence[Variant] = ()
    synthetic: bool = False

    @property
    def samples_per_second(self) -> float:
        """Of all processes."""
        return self.sizes.share * self.num_processes / self.step.whole

    @property
    def flops(self) -> float:
        """Operations of the network a second, of one process."""
        return self.sizes.share * self.train_flops / self.step.whole

    @property
    def utilization(self) -> float:
        return self.flops / self.chip.peak_flops

    def share(self, part: str) -> float:
        """Of the time of a step's parts."""
        return self.step.parts.get(part, 0.0) / sum(self.step.parts.values())
