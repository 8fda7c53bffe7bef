"""How a batch is shared by the processes of a run and cut into micro-batches."""

from __future__ import annotations

from dataclasses import dataclass

from rawdiff.errors import UserError


@dataclass(frozen=True)
class Shares:
    """Samples of a step: of each process, and at a time."""

    of_process: int
    micro_batch: int

    @property
    def num_micro_batches(self) -> int:
        return -(-self.of_process // self.micro_batch)


def share_batch(batch_size: int, micro_batch_size: int | None, num_processes: int) -> Shares:
    """The equal shares of all processes. UserError with the nearest sizes where there are none."""
    if batch_size % num_processes:
        below, above = nearest_batch_sizes(batch_size, num_processes)
        raise UserError(
            f"`train.batch_size: {batch_size}` cannot be shared equally by {num_processes} "
            f"processes. It is the batch of all of them; use {above}"
            f"{f' or {below}' if below else ''}, or a number of processes that divides it."
        )
    of_process = batch_size // num_processes
    return Shares(of_process, min(micro_batch_size or of_process, of_process))


def nearest_batch_sizes(batch_size: int, num_processes: int) -> tuple[int, int]:
    """The next ones below (may be 0) and above that can be shared equally."""
    below = batch_size // num_processes * num_processes
    return below, below if below == batch_size else below + num_processes


def largest_micro_batch(of_process: int, limit: int) -> int:
    """The largest number of samples up to `limit` that cuts a process's share into equal parts."""
    return max(size for size in range(1, limit + 1) if of_process % size == 0)
