"""What a run takes on many GPUs, before it has any: memory, exchange and time of each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
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
from rawdiff.train.batch_memory import measure_batch
from rawdiff.train.cost import PEAK_FLOPS, Cost, measure_cost
from rawdiff.train.memory import (
    Activations,
    measure_activations,
    memory_parts,
    parts_of_passes,
)
from rawdiff.train.optimizer import MuonCost, muon_cost

EXPECTED_MFU = 0.4
USABLE = 0.9  # of the memory; the rest is for CUDA, its libraries and gaps between tensors


@dataclass(frozen=True)
class Machines:
    """GPUs that a run is planned for; by default H200 with 400 Gbit/s each between machines.

    `inside` and `between` are what a GPU sends to others of its machine and of other machines,
    in GB/s; it receives as much at the same time. `mfu` is the share of the peak that is used
    (None: 40 %), or `samples_per_second` what one GPU was measured to train of this recipe.
    """

    world_size: int
    gpus_per_machine: int = 8
    memory_gib: float = 140.0
    tflops: float = PEAK_FLOPS["H200"] / 1e12
    mfu: float | None = None
    samples_per_second: float | None = None
    inside: float = 400.0
    between: float = 50.0

    def __post_init__(self) -> None:
        """UserError for what no machine has."""
        for field in fields(self):
            value, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"`{flag} {value}`: give a number above 0.")
        if self.mfu is not None and self.samples_per_second is not None:
            raise UserError(
                "`--mfu` and `--samples-per-second` both say how fast a GPU computes; give one."
            )
        if self.mfu is not None and self.mfu > 1:
            raise UserError(
                f"`--mfu {self.mfu}`: it is the share of the peak that is used, at most 1; "
                "40% is 0.4."
            )

    def mfu_of(self, sample_flops: float) -> float:
        """The share of the peak that is used, where each sample takes so many operations.

        UserError where the measured speed is above the peak.
        """
        if self.samples_per_second is None:
            return EXPECTED_MFU if self.mfu is None else self.mfu
        mfu = self.samples_per_second * sample_flops / (1e12 * self.tflops)
        if mfu > 1:
            raise UserError(
                f"`--samples-per-second {self.samples_per_second:g}` of one GPU would take "
                f"{mfu:.1f} times its peak of {self.tflops:g} TFLOP/s, at "
                f"{sample_flops / 1e12:,.3g} TFLOP a sample. Give the speed of this recipe that "
                "`rawdiff bench` shows for a single GPU, and the --tflops of that GPU."
            )
        return mfu


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
    sample_bytes: int
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
    def mfu(self) -> float:
        """The share of a GPU's peak that is used; what is computed again counts as used."""
        return self.machines.mfu_of(sum(self._sample_flops))

    @property
    def _sample_flops(self) -> tuple[int, int]:
        """Operations of a sample's forward and backward pass."""
        forward = 2 * self.cost.multiply_adds
        return forward, forward * (3 if self.recipe.parallel.activation_checkpoint else 2)

    def with_shares(self, shares: Shares) -> Plan:
        """The same for samples that each GPU cuts in this way."""
        parts = parts_of_passes(
            self.footprint,
            self.cost.num_parameters,
            self.activations,
            shares,
            self.sample_bytes,
        )
        train = self.recipe.train.model_copy(
            update={
                "batch_size": shares.of_process * self.machines.world_size,
                "micro_batch_size": shares.micro_batch,
            }
        )
        recipe = self.recipe.model_copy(update={"train": train})
        return replace(self, recipe=recipe, shares=shares, parts=self.parts | parts)

    def with_largest_micro_batch(self) -> Plan | None:
        """The one with the most samples at a time that fits, of equal parts of a GPU's share."""
        of_process = self.shares.of_process
        for size in range(of_process, 0, -1):
            if of_process % size == 0:
                other = self.with_shares(Shares(of_process, size))
                if other.fits:
                    return other
        return None

    @cached_property
    def seconds(self) -> Seconds:
        """Each unit is gathered while the one before computes, and summed while the next does."""
        machines, footprint, num = self.machines, self.footprint, self.shares.num_micro_batches
        among_sharers = self._bandwidth(footprint.shard, stride=1)
        among_replicas = self._bandwidth(footprint.replicate, stride=footprint.shard)
        flops = 1e12 * machines.tflops * self.mfu
        forward, backward = (
            of_sample * self.shares.of_process / num / flops for of_sample in self._sample_flops
        )
        traffic, num_gatherings = footprint.traffic, footprint.num_gatherings(num)
        first = traffic.gather_forward / among_sharers
        again = traffic.gather_backward / among_sharers
        reduce_scatter = traffic.reduce_scatter / among_sharers
        all_reduce = traffic.all_reduce / among_replicas
        forwards = num_gatherings * max(forward, first) + (num - num_gatherings) * forward
        backwards = (num - 1) * max(backward, again)
        backwards += max(backward, again + reduce_scatter + all_reduce)
        products, handed_over = self.muon.flops / flops, self.muon.sent_bytes
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

    `like` is a plan of the same network and data, so with the same cost, activations and samples.
    UserError where batch, mesh or precision does not suit the number of processes.
    """
    train, parallel = recipe.train, recipe.parallel
    shares = share_batch(train.batch_size, train.micro_batch_size, machines.world_size)
    require_gatherable(parallel, machines.world_size, train.precision, "cuda")
    network = make_network(recipe, info, patcher)
    if like is not None:
        cost, activations, sample_bytes = like.cost, like.activations, like.sample_bytes
    else:
        cost = measure_cost(network)
        activations = measure_activations(
            network,
            bfloat16=multiplies_in_bfloat16(train.precision, "cuda"),
            gathers_bfloat16=machines.world_size > 1 and parallel.gather_dtype == "bfloat16",
            recomputes=parallel.activation_checkpoint,
            on_gpu=True,
        )
        sample_bytes = measure_batch(recipe, info, patcher)
    with pretend_processes(machines.world_size, machines.gpus_per_machine) as processes:
        mesh = mesh_shape(parallel, processes)
        parallelize(network, parallel, processes, torch.device("cpu"))
        footprint = measure_footprint(network, parallel, mesh)
        parts = memory_parts(network, footprint, train, activations, shares, sample_bytes)
        muon = muon_cost(network, train, footprint.shard)
    return Plan(recipe, machines, footprint, shares, cost, activations, sample_bytes, parts, muon)


def advise(plan: Plan, info: DataInfo, patcher: Patcher) -> Iterator[tuple[str, Plan]]:
    """Each change of the recipe alone that makes its memory fit; the plan with it."""
    recipe, parallel = plan.recipe, plan.recipe.parallel

    def changed(section: str, **keys: Any) -> Plan:
        part = getattr(recipe, section).model_copy(update=keys)
        other = recipe.model_copy(update={section: part})
        like = None if "activation_checkpoint" in keys else plan
        return make_plan(other, info, patcher, plan.machines, like)

    if smaller := plan.with_largest_micro_batch():
        yield f"train.micro_batch_size={smaller.shares.micro_batch}", smaller
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
