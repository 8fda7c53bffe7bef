"""How a step is best cut: real steps of several micro-batches, until memory or time is used up."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field, replace

import torch

from rawdiff.bench.budget import Budget, Say
from rawdiff.bench.chip import USABLE
from rawdiff.bench.measured import Chip, Sizes, Tried
from rawdiff.bench.micro_batch import find_largest, sizes_for_cpu, sizes_of, try_size
from rawdiff.bench.samples import Samples
from rawdiff.bench.stand import with_sizes
from rawdiff.bench.steps import in_whole_step, time_parts
from rawdiff.parallel.batch import Shares
from rawdiff.train.loop import Loop
from rawdiff.train.memory import Activations

UNTIL = 0.25  # of the time
MAX_STEPS = 8  # of each size
NUM_SIZES = 4  # about so many are tried


@dataclass
class Search:
    """Tries micro-batches of a process's share of the batch."""

    loop: Loop
    samples: Samples
    chip: Chip
    budget: Budget
    say: Say
    train_flops: int
    memory: Activations | None
    """Of a process on a CPU; on a GPU it is measured."""
    _tried: dict[int, Tried] = field(default_factory=dict)

    def find(self, shares: Shares) -> Sizes:
        """The recipe's own micro-batch and others; several processes try none but their own."""
        share, own = shares.of_process, shares.micro_batch
        sizes = [size for size in sizes_of(share) if self._has_memory(size)] or [1]
        if self.loop.processes.count > 1:
            used = own if self._is_quick(own) else 1
            self._tried[used] = self._try(used, share)
        elif self.chip.is_gpu:
            found = find_largest(
                sizes, own, lambda size: self._fits(size, share), lambda: self._goes_on()
            )
            if found is None:
                raise torch.OutOfMemoryError("one sample at a time is too much.")
            used = own if self._tried[own].fits else found
        else:
            chosen = sizes_for_cpu(sizes, min(own, sizes[-1]), self._seconds, self.patience)
            for number, size in enumerate(chosen):
                if number == 0 or self._goes_on():
                    self._fits(size, share)
            used = chosen[0]
        tried = sorted(self._tried.values(), key=lambda one: one.size)
        return Sizes(shares.of_process * self.loop.processes.count, share, own, used, 1, tried)

    @property
    def patience(self) -> float:
        """Seconds that a single step may take, so that a few of them can be measured."""
        return self.budget.seconds / 15

    def _seconds(self, size: int) -> float:
        """Of a step of one micro-batch, about: at half of the chip's peak."""
        return 2 * size * self.train_flops / self.chip.peak_flops

    def _is_quick(self, size: int) -> bool:
        quick = self._seconds(size) <= self.patience
        return self.loop.processes.from_first(lambda: quick)

    def _goes_on(self) -> bool:
        return not self._tried or self.budget.left(UNTIL) > 0

    def _has_memory(self, size: int) -> bool:
        return self.memory is None or self.memory(size) <= USABLE * self.chip.memory_bytes

    def _fits(self, size: int, share: int) -> bool:
        self._tried[size] = try_size(size, lambda size: self._try(size, share), self._recover)
        return self._tried[size].fits

    def _try(self, size: int, share: int) -> Tried:
        """Of steps with two micro-batches where there are as many: the gradients of the first are
        there when the activations of the second are."""
        self.say(f"trying {size} samples at a time")
        num_all = -(-share // size)
        num_timed = min(2, num_all) if self.chip.is_gpu else 1
        loop = with_sizes(self.loop, size, num_timed)
        batches = self.samples.batches(size * num_timed)
        if self.chip.is_gpu:
            torch.compiler.reset()  # it refuses to compile for more than a few sizes
            torch.cuda.reset_peak_memory_stats()
        warm = sum(time_parts(loop, batches, 1).values())
        num_steps = min(self.budget.num_steps(NUM_SIZES * warm, UNTIL), MAX_STEPS)
        parts = in_whole_step(time_parts(loop, batches, num_steps), num_timed, num_all)
        tried = Tried(size, samples_per_second=share / sum(parts.values()))
        if not self.chip.is_gpu:
            return tried
        peak = torch.cuda.max_memory_allocated()
        fits = peak <= USABLE * self.chip.memory_bytes
        return replace(tried, peak_bytes=peak, fits=fits)

    def _recover(self) -> None:
        """Free what a step left that ran out of memory, also half of an optimizer's state."""
        state = self.loop.state
        state.optimizer.zero_grad()
        state.optimizer.state.clear()
        gc.collect()
        torch.cuda.empty_cache()
