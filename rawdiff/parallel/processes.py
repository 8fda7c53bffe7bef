"""The processes of a run and what they tell one another; a single one has nobody to talk to.

They are started by torchrun, or by anything that sets its variables: RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.parallel.launch import PeerFailedError, variable

T = TypeVar("T")

# What gloo says where another process is out of reach; NCCL has an exception of its own.
LATE = ("Timed out waiting", "Application timeout caused pair closure")
GONE = ("Connection closed by peer", "Connection reset by peer", "Connection refused", "gloo/")

# Before the first step the first process may read all data for its statistics.
PATIENCE_AT_FIRST = timedelta(hours=12)
# Beside the steps a process may wait until another has written its part of a checkpoint.
PATIENCE_BESIDE = timedelta(hours=1)
BESIDE = "beside"  # describes the channel for that


def lost_contact(error: BaseException) -> str | None:
    """`late` if a process waited too long for another, `gone` if that one's connection broke.

    None for an error of another kind.
    """
    found: BaseException | None = error
    while found is not None:
        text = str(found)
        if any(words in text for words in LATE):
            return "late"
        if any(words in text for words in GONE) or isinstance(found, dist.DistBackendError):
            return "gone"
        found = found.__cause__
    return None


class FailedTogetherError(Exception):
    """What one of the processes could not do; all know of it."""


@dataclass(frozen=True)
class Processes:
    """This process among those of the run. Every method but the properties is called by all."""

    rank: int = 0
    count: int = 1
    count_here: int = 1
    """On each machine; where they differ, the largest number that divides all."""
    group: dist.ProcessGroup | None = None
    """The channel that they talk through; None is the one of the training."""

    def beside(self) -> Processes:
        """The same processes on a channel of its own, for one thread beside the training."""
        if self.count == 1:
            return self
        group = dist.new_group(backend="gloo", timeout=PATIENCE_BESIDE, group_desc=BESIDE)
        return replace(self, group=group)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def only_first(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """What says things in the first process, and nothing in others: one speaks for all."""
        return say if self.is_first else lambda text: None

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place; on the tensor's device."""
        if self.count > 1:
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def wait(self) -> None:
        """Until all are here."""
        self.sum(torch.zeros(1))

    def from_first(self, function: Callable[[], T]) -> T:
        """What the function gives the first process, which alone calls it."""
        found = [function() if self.is_first else None]
        if self.count > 1:
            dist.broadcast_object_list(found, group=self.group, device=torch.device("cpu"))
        return found[0]  # type: ignore[return-value]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.count == 1:
            return [value]
        gathered: list[T] = [value] * self.count
        dist.all_gather_object(gathered, value, group=self.group)
        return gathered

    def all_succeed(self, function: Callable[[], T]) -> list[T]:
        """What the function gives the processes, by rank.

        Raises FailedTogetherError in all of them if it failed in any.
        """
        result, failure = None, None
        try:
            result = function()
        except Exception as error:
            if self.count == 1:
                raise FailedTogetherError(str(error)) from error
            failure = f"{error} (process {self.rank})"
        outcomes = self.gather((result, failure))
        for _, told in outcomes:
            if told is not None:
                raise FailedTogetherError(told)
        return [result for result, _ in outcomes]  # type: ignore[misc]

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first process goes through alone, so that the others find what it leaves."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def limit_waiting(self, minutes: float) -> None:
        """From now on a process that waits longer than this for another in a step gives up.

        Each group, as sharding has them, has a time-out of its own; that beside the steps stays.
        """
        groups = dist.distributed_c10d._world.pg_map if self.count > 1 else ()
        for group in groups:
            if group.group_desc != BESIDE:
                dist.distributed_c10d._set_pg_timeout(timedelta(minutes=minutes), group)


ALONE = Processes()


@dataclass
class Agreement:
    """Flags that any process may raise, and that all see raised after the same step.

    The answer comes one call later, so that nobody waits for it.
    """

    processes: Processes
    _pending: tuple[Tensor, dist.Work] | None = field(default=None, init=False)

    def __call__(self, *flags: bool) -> tuple[bool, ...]:
        """Which flags anybody had raised at the last call; for a single process: at this one."""
        if self.processes.count == 1:
            return flags
        answer = (False,) * len(flags)
        if self._pending is not None:
            tensor, work = self._pending
            work.wait()
            answer = tuple(tensor.bool().tolist())
        tensor = torch.tensor(flags, dtype=torch.int32)
        work = dist.all_reduce(tensor, dist.ReduceOp.MAX, async_op=True)
        assert work is not None
        self._pending = tensor, work
        return answer

    def settle(self) -> None:
        """Read the last answer, so that nothing is under way when the processes part."""
        if self._pending is not None:
            self._pending[1].wait()
            self._pending = None


@contextmanager
def join_processes(on_gpu: bool) -> Iterator[Processes]:
    """The processes that were started together; they part at the end.

    Raises UserError if the variables of the launcher are wrong, and PeerFailedError where another
    process failed first: one message is enough.
    """
    rank, count, here, local_rank = (
        variable(name, default)
        for name, default in (
            ("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_WORLD_SIZE", 1), ("LOCAL_RANK", 0),
        )
    )  # fmt: skip
    if count == 1:
        yield Processes()
        return
    if on_gpu:
        _take_gpu(local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE_AT_FIRST)
    try:
        here = math.gcd(*Processes(rank, count).gather(here))
        yield Processes(rank, count, here)
    except BaseException as error:
        if not _fails_first(rank):
            raise PeerFailedError from error
        if lost_contact(error) and not isinstance(error, PeerFailedError):
            raise PeerFailedError(
                "Another process ended without a word: it was killed (out of memory?) or its "
                "machine is gone. Its launcher or the system log of its machine says more."
            ) from error
        error.add_note(f"in process {rank} of {count}")
        raise
    finally:
        dist.destroy_process_group()


def _fails_first(rank: int) -> bool:
    """Whether no other process failed before this one."""
    try:
        store = dist.distributed_c10d._get_default_store()
        return store.compare_set("failed", "", str(rank)).decode() == str(rank)
    except RuntimeError:  # the store went with the process that held it
        return False


def _take_gpu(local_rank: int) -> None:
    if local_rank >= (num_gpus := torch.cuda.device_count()):
        raise UserError(
            f"Process {local_rank} of this machine has no GPU: there are {num_gpus}. Start as many "
            "processes on each machine as it has GPUs (`torchrun --nproc-per-node=gpu`)."
        )
    torch.cuda.set_device(local_rank)
