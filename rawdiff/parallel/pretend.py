"""Processes that are not there, so that a network can be cut for a thousand of them on a laptop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from rawdiff.parallel.processes import ALONE, Processes


@contextmanager
def pretend_processes(count: int, count_here: int) -> Iterator[Processes]:
    """The first of so many processes, `count_here` of them on each machine.

    What they would exchange is made up: only shapes mean something. The first one holds the
    largest shard of every weight.
    """
    if count == 1:
        yield ALONE
        return
    assert not dist.is_initialized(), "real processes have been joined"
    dist.init_process_group(dist.Backend.FAKE, store=FakeStore(), rank=0, world_size=count)
    try:
        yield Processes(rank=0, count=count, count_here=min(count, count_here))
    finally:
        dist.destroy_process_group()
