"""What a run takes on many GPUs, before it has any: memory, exchange and time of each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch

from rawdiff.assemble import make_network
from rawdiff.data.dataset import DataInfo
from rawdiff.data.patcher import Patcher
from rawdiff.errors import UserError
from rawdiff.parallel.apply import mesh_shape, parallelize, require_gatherable
from rawdiff.parallel.batch import Shares, share_batch
from rawdiff.parallel.footprint import FLOAT32_BYTES, Footprint, measure_footprint
from rawdiff.parallel.pretend import pretend_processes
from rawdiff.precision import multiplies_in_bfloat16
from rawdiff.recipe import Recipe
from rawdiff.train.cost import PEAK_FLOPS, Cost, measure_cost
from rawdiff.train.memory import Activations, measure_activations, memory_parts
from rawdiff.train.optimizer import MuonCost, muon_cost

EXPECTED_MFU = 0.4
USABLE = 0.9  # of the memory; the rest is for CUDA, its libraries and gaps between tensors


@dataclass(frozen=True)
class Machines:
    """GPUs that a run is planned for; by default H200 with 400 Gbit/s each between machines.

    `inside` and `between` are what a GPU sends to others of its machine and of other machines,
    in GB/s; it receives as much at the same time.
    """

    world_size: int
    gpus_per_machine: int = 8
    memory_gib: float = 140.0
    tflops: float = PEAK_FLOPS["H200"] / 1e12
    mfu: float = EXPECTED_MFU
    inside: float = 400.0
    between: float = 50.0

    def __post_init__(self) -> None:
        """UserError for what no machine has."""
        for field in fields(self):
            value, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if not 0 < value < math.inf:
                raise UserError(f"`{flag} {value}`: give a number above 0.")
        if self.mfu > 1:
            raise UserError(
                f"`--mfu {self.mfu}`: it is the share of the peak that is used, at most 1; "
                "40% is 0.4."
            )

    @property
    def flops(self) -> float:
        """Operations a second that a GPU is expected to do."""
        return self.tflops * 1e12 * self.mfu


@dataclass(frozen=True)
class Seconds:
    """Of one step. What is exchanged while others compute is hidden; what Muon does is not, its
    products are part of `compute`."""

    compute: float
    gather: float
    reduce_scatter: float
    all_reduce: float
    muon: float
    step: float

    @property
    def not_hidden(self) -> float:
        return self.step - self.compute


@dataclass(frozen=True)
class Plan:
    """A recipe on such machines: what each GPU holds, sends and does."""

    recipe: Recipe
    machines: Machines
    footprint: Footprint
    shares: Shares
    cost: Cost
    activations: Activations
    parts: dict[str, int]
    muon: MuonCost

    @property
    def step_bytes(self) -> int:
        """All parts; a little more than a step holds at a time."""
        return sum(self.parts.values())

    @property
    def whole_bytes(self) -> int:
        """What a process holds besides when it begins, and for a picture: the network once."""
        return FLOAT32_BYTES * self.cost.num_parameters if self.footprint.is_spread else 0

    @property
    def peak_bytes(self) -> int:
        state = sum(self.parts.get(name, 0) for name in ("weights", "optimizer"))
        state += sum(size for name, size in self.parts.items() if name.startswith("average"))
        draws = self.recipe.train.picture_every is not None
        return max(self.step_bytes, self.whole_bytes + (state if draws else 0))

    @property
    def fits(self) -> bool:
        return self.peak_bytes <= USABLE * self.machines.memory_gib * 2**30

    @cached_property
    def seconds(self) -> Seconds:
        """Each unit is gathered while the one before computes, and summed while the next does."""
        machines, footprint, num = self.machines, self.footprint, self.shares.num_micro_batches
        among_sharers = self._bandwidth(footprint.shard, stride=1)
        among_replicas = self._bandwidth(footprint.replicate, stride=footprint.shard)
        forward = 2 * self.cost.multiply_adds * self.shares.of_process / num / machines.flops
        backward = forward * (3 if self.recipe.parallel.activation_checkpoint else 2)
        traffic, num_gatherings = footprint.traffic, footprint.num_gatherings(num)
        first = traffic.gather_forward / among_sharers
        again = traffic.gather_backward / among_sharers
        reduce_scatter = traffic.reduce_scatter / among_sharers
        all_reduce = traffic.all_reduce / among_replicas
        forwards = num_gatherings * max(forward, first) + (num - num_gatherings) * forward
        backwards = (num - 1) * max(backward, again)
        backwards += max(backward, again + reduce_scatter + all_reduce)
        products, handed_over = self.muon.flops / machines.flops, self.muon.sent_bytes
        muon = products + handed_over / among_sharers
        return Seconds(
            compute=num * (forward + backward) + products,
            gather=num_gatherings * (first + again),
            reduce_scatter=reduce_scatter,
            all_reduce=all_reduce,
            muon=muon,
            step=forwards + backwards + muon,
        )

    def _bandwidth(self, count: int, *, stride: int) -> float:
        """In bytes a second and GPU, of a group of so many processes, each `stride` after another.

        Where some of the group are on each machine, their rings leave it by as many ways as they
        are, and each way carries its part.
        """
        machines, span = self.machines, count * stride
        here = math.gcd(span, machines.gpus_per_machine)
        if here == span or machines.world_size <= machines.gpus_per_machine:
            return 1e9 * machines.inside
        return 1e9 * min(machines.inside, max(1, here // stride) * machines.between)


def make_plan(
    recipe: Recipe,
    info: DataInfo,
    patcher: Patcher,
    machines: Machines,
    like: Plan | None = None,
) -> Plan:
    """Nothing is computed and nothing takes memory: the network is cut for processes not there.

    `like` is a plan of the same network, which has the same cost and activations. Raises UserError
    where batch, mesh or precision does not suit the number of processes.
    """
    train, parallel = recipe.train, recipe.parallel
    shares = share_batch(train.batch_size, train.micro_batch_size, machines.world_size)
    require_gatherable(parallel, machines.world_size, train.precision, "cuda")
    network = make_network(recipe, info, patcher)
    if like is not None:
        cost, activations = like.cost, like.activations
    else:
        cost = measure_cost(network)
        activations = measure_activations(
            network,
            bfloat16=multiplies_in_bfloat16(train.precision, "cuda"),
            gathers_bfloat16=machines.world_size > 1 and parallel.gather_dtype == "bfloat16",
            recomputes=parallel.activation_checkpoint,
        )
    with pretend_processes(machines.world_size, machines.gpus_per_machine) as processes:
        mesh = mesh_shape(parallel, processes)
        parallelize(network, parallel, processes, torch.device("cpu"))
        footprint = measure_footprint(network, parallel, mesh)
        parts = memory_parts(network, footprint, train, activations, shares)
        muon = muon_cost(network, train, footprint.shard)
    return Plan(recipe, machines, footprint, shares, cost, activations, parts, muon)


def advise(plan: Plan, info: DataInfo, patcher: Patcher) -> Iterator[tuple[str, Plan]]:
    """Each change of the recipe alone that makes its memory fit; the plan with it."""
    recipe, parallel = plan.recipe, plan.recipe.parallel

    def changed(section: str, **keys: Any) -> Plan:
        part = getattr(recipe, section).model_copy(update=keys)
        other = recipe.model_copy(update={section: part})
        like = None if "activation_checkpoint" in keys else plan
        return make_plan(other, info, patcher, plan.machines, like)

    for size in _smaller_micro_batches(plan.shares):
        smaller = changed("train", micro_batch_size=size)
        if smaller.fits:
            yield f"train.micro_batch_size={size}", smaller
            break
    alternatives: dict[str, Any] = {"activation_checkpoint": True}
    if plan.footprint.is_spread:
        alternatives["reshard_after_forward"] = True
        if plan.footprint.replicate > 1:
            alternatives |= {"shard": plan.machines.world_size}
    for key, value in alternatives.items():
        if getattr(parallel, key) == value:
            continue
        keys = {key: value} | ({"replicate": 1} if key == "shard" else {})
        other = changed("parallel", **keys)
        if other.fits:
            text = " ".join(f"parallel.{k}={str(v).lower()}" for k, v in keys.items())
            yield text, other


def _smaller_micro_batches(shares: Shares) -> Iterator[int]:
    """The divisors of a process's share below its micro-batch, from large to small."""
    for size in range(shares.micro_batch - 1, 0, -1):
        if shares.of_process % size == 0:
            yield size
