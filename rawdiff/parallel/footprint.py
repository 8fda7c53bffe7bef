"""What a sharded network holds and exchanges; a function of its shapes, known before a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rawdiff.model.network import Network
from rawdiff.parallel.apply import local
from rawdiff.parallel.settings import ParallelSettings

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Group:
    """Weights that are gathered and summed together: those of a unit, or all that are in none.

    `num_local` values are on this process; `num_gathered` in all, with the padding of weights that
    cannot be cut into equal parts.
    """

    num_local: int
    num_gathered: int


@dataclass(frozen=True)
class Traffic:
    """Bytes that a process sends, and receives as many, where collectives go around in rings.

    `gather_forward` and `gather_backward` each time that weights are gathered
    (`Footprint.num_gatherings`), the sums once in a step: of the gradients among those who share
    the weights, then of the shards among replicas.
    """

    gather_forward: float
    gather_backward: float
    reduce_scatter: float
    all_reduce: float


@dataclass(frozen=True)
class Footprint:
    """Of one process with the largest shards, on a mesh (replicate, shard)."""

    replicate: int
    shard: int
    settings: ParallelSettings
    units: tuple[Group, ...]
    rest: Group

    @property
    def num_local(self) -> int:
        """Values of the weights that this process keeps."""
        return self.rest.num_local + sum(unit.num_local for unit in self.units)

    @property
    def is_spread(self) -> bool:
        """Whether there is more than one process; a single one gathers nothing."""
        return self.replicate * self.shard > 1

    @property
    def gather_bytes_each(self) -> int:
        """Of a gathered value."""
        return 2 if self.settings.gather_dtype == "bfloat16" else FLOAT32_BYTES

    @property
    def gathered_bytes(self) -> int:
        """Most gathered weights at a time: all, or with `reshard_after_forward` those of a unit
        beside those that are in none."""
        if not self.is_spread:
            return 0
        sizes = [unit.num_gathered for unit in self.units]
        num = max(sizes, default=0) if self.settings.reshard_after_forward else sum(sizes)
        return self.gather_bytes_each * (num + self.rest.num_gathered)

    @property
    def gather_buffer_bytes(self) -> int:
        """What arrives from others before it is put in order: of the largest group."""
        if not self.is_spread or self.shard == 1:
            return 0
        largest = max(group.num_gathered for group in (*self.units, self.rest))
        return self.gather_bytes_each * largest

    def num_gatherings(self, num_micro_batches: int) -> int:
        """In a step: weights that stay for the backward pass stay for other micro-batches, too."""
        return num_micro_batches if self.settings.reshard_after_forward else 1

    @property
    def traffic(self) -> Traffic:
        local_bytes = FLOAT32_BYTES * self.num_local
        gather = self.gather_bytes_each * self.num_local * (self.shard - 1)
        return Traffic(
            gather_forward=gather,
            gather_backward=gather if self.settings.reshard_after_forward else 0,
            reduce_scatter=local_bytes * (self.shard - 1),
            all_reduce=2 * local_bytes * (self.replicate - 1) / self.replicate,
        )


def measure_footprint(
    network: Network, settings: ParallelSettings, mesh_shape: tuple[int, int]
) -> Footprint:
    """Of a network that `parallelize` has cut, which may be on the device `meta`."""
    replicate, shard = mesh_shape
    of_units = [dict(unit.named_parameters()) for unit in network.units]
    taken = {id(parameter) for unit in of_units for parameter in unit.values()}
    rest = [p for p in network.parameters() if id(p) not in taken]

    def group(parameters: list[torch.nn.Parameter]) -> Group:
        num_local = sum(local(parameter.detach()).numel() for parameter in parameters)
        return Group(num_local, shard * num_local)

    units = tuple(group(list(unit.values())) for unit in of_units)
    return Footprint(replicate, shard, settings, units, group(rest))
