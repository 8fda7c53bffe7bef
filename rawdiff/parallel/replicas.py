"""Processes that hold the same hold the same bits, unless a GPU or its memory is broken."""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from rawdiff.errors import UserError
from rawdiff.parallel.apply import local, named_tensors
from rawdiff.parallel.processes import Processes

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Checksum(NamedTuple):
    """Of what a process shares with its replicas, and of what it shares with all; and where."""

    of_shard: int
    of_all: int
    host: str


def require_equal_replicas(state: dict[str, Any], shard: int, processes: Processes) -> None:
    """UserError if two processes differ in what they should hold alike; called by all.

    `state` holds nested tensors. Sharded ones lie alike on every process whose rank has the same
    remainder by `shard`, others on all.
    """
    if processes.count == 1:
        return
    mine = Checksum(*_checksums(state), platform.node())
    different = _different(processes.gather(mine), shard)
    if different:
        raise UserError(
            f"{different} had the same weights and the same gradients as others, but hold other "
            "bits now: a GPU or its memory miscalculates, or a copy was damaged on its way. This "
            "state is not saved. Leave that machine or GPU out; the same command continues from "
            "the last checkpoint."
        )


def _checksums(state: dict[str, Any]) -> tuple[int, int]:
    """Sums of the bits, read as integers: one flipped bit always changes them."""
    sums: dict[bool, list[Tensor]] = {True: [], False: []}
    for tensor in named_tensors(state).values():
        bits = local(tensor).detach().contiguous().view(INTEGERS[tensor.element_size()])
        sums[isinstance(tensor, DTensor)].append(bits.sum(dtype=torch.int64).cpu())
    of_shard, of_all = (int(sum(sums[sharded], torch.tensor(0))) for sharded in (True, False))
    return of_shard, of_all


def _different(checksums: Sequence[Checksum], shard: int) -> str:
    """Processes that differ from most of those they should equal; empty if all are equal."""
    groups: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for rank, checksum in enumerate(checksums):
        groups["shard", rank % shard].append((rank, checksum.of_shard))
        groups["all", 0].append((rank, checksum.of_all))
    ranks: set[int] = set()
    for members in groups.values():
        counts = Counter(value for _, value in members)
        (value, most), *others = counts.most_common()
        if others:  # where none has a majority, each may be the one
            ranks |= {rank for rank, other in members if other != value or 2 * most <= len(members)}
    names = [f"process {rank} on {checksums[rank].host}" for rank in sorted(ranks)]
    return (" or ".join(names) if len(names) == 2 else ", ".join(names)).capitalize()
