"""Memory of a training process by part, known before a run."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from rawdiff.model.attention import never_held
from rawdiff.model.network import Network
from rawdiff.parallel.batch import Shares
from rawdiff.parallel.footprint import FLOAT32_BYTES, Footprint
from rawdiff.recipe import TrainSettings
from rawdiff.train.cost import run_on_nothing
from rawdiff.train.optimizer import num_moments


@dataclass(frozen=True)
class Activations:
    """Bytes that the backward pass keeps: once, such as rounded weights, and of each sample."""

    once: int
    a_sample: int

    def __call__(self, num_samples: int) -> int:
        return self.once + num_samples * self.a_sample


def measure_activations(
    network: Network,
    *,
    bfloat16: bool,
    gathers_bfloat16: bool = False,
    recomputes: bool = False,
    on_gpu: bool = False,
) -> Activations:
    """Counted without memory on a network on the device `meta`; nothing is compiled.

    `bfloat16`: under autocast. `recomputes`: each unit keeps its inputs alone, and one at a time
    everything while it is computed again.
    """
    network = copy.deepcopy(network)
    attention = never_held() if on_gpu else nullcontext()
    with FakeTensorMode(allow_non_fake_inputs=True), attention:
        network.to_empty(device="cpu")
        if gathers_bfloat16:
            for parameter in network.parameters():
                parameter.data = parameter.data.bfloat16()
        one, two = (_kept_bytes(network, num, bfloat16, recomputes) for num in (1, 2))
        once = 2 * one - two
        if recomputes and bfloat16:  # autocast holds all rounded weights until a pass is over
            once = 2 * _kept_bytes(network, 1, bfloat16, False)
            once -= _kept_bytes(network, 2, bfloat16, False)
    return Activations(once=once, a_sample=two - one)


def _kept_bytes(network: Network, num_samples: int, bfloat16: bool, recomputes: bool) -> int:
    kept = _Kept(network)
    with kept.watch(network.units, recomputes), torch.autocast("cpu", enabled=bfloat16):
        output = run_on_nothing(network, num_samples, torch.device("cpu"))
    del output  # it held what was kept until here
    units = kept.of_units.values()
    return kept.outside + (max(units, default=0) if recomputes else sum(units))


class _Kept:
    """Bytes kept outside of units and in each; no storage counts twice, weights not at all."""

    def __init__(self, network: Network) -> None:
        self.outside = 0
        self.of_units: dict[nn.Module, int] = {}
        self._unit: nn.Module | None = None
        self._seen = {p.untyped_storage()._cdata for p in network.parameters()}
        self._alive: list[Tensor] = []  # so that no other storage takes the place of one seen

    def count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._alive.append(tensor)
            if self._unit is None:
                self.outside += storage.nbytes()
            else:
                self.of_units[self._unit] = self.of_units.get(self._unit, 0) + storage.nbytes()
        return tensor

    @contextmanager
    def watch(self, units: Any, counts_inputs: bool) -> Iterator[None]:
        def enter(unit: nn.Module, inputs: tuple[Any, ...]) -> None:
            if counts_inputs:
                for value in inputs:
                    if isinstance(value, Tensor):
                        self.count(value)
            self._unit = unit

        def leave(unit: nn.Module, inputs: Any, output: Any) -> None:
            self._unit = None

        hooks = [unit.register_forward_pre_hook(enter) for unit in units]
        hooks += [unit.register_forward_hook(leave) for unit in units]
        try:
            with torch.autograd.graph.saved_tensors_hooks(self.count, lambda tensor: tensor):
                yield
        finally:
            for hook in hooks:
                hook.remove()


def memory_parts(
    network: Network,
    footprint: Footprint,
    train: TrainSettings,
    activations: Activations,
    shares: Shares,
    sample_bytes: int = 0,
) -> dict[str, int]:
    """Bytes by part, of the process with the largest shards; no process ever holds more at a time.
    Parts that are not there have none.

    `sample_bytes` are those of the samples themselves (`measure_batch`). Not counted: what Muon
    computes when activations are gone, and what CUDA and its libraries take. Gradients are there
    when activations are gone, so the sum is a little more than the peak.
    """
    local_bytes = FLOAT32_BYTES * footprint.num_local
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    of_passes = parts_of_passes(footprint, num_parameters, activations, shares, sample_bytes)
    averages = {f"average {ema.name}": local_bytes for ema in train.ema}
    return {
        "weights": local_bytes,
        "gradients": local_bytes,
        "gradients before they are summed": 0,
        "optimizer": FLOAT32_BYTES * num_moments(network, train),
        **averages,
        "gathered weights": footprint.gathered_bytes,
        "gather buffer": 0,
        "tables": sum(buffer.nbytes for buffer in network.buffers()),
        **of_passes,
    }


def parts_of_passes(
    footprint: Footprint,
    num_parameters: int,
    activations: Activations,
    shares: Shares,
    sample_bytes: int,
) -> dict[str, int]:
    """Those of the parts that depend on how a process cuts its samples into passes."""
    accumulates = footprint.is_spread and shares.num_micro_batches > 1
    # Where gradients wait for others, so do the weights: at the peak all have arrived already.
    gathers = not accumulates or footprint.settings.reshard_after_forward
    return {
        "gradients before they are summed": FLOAT32_BYTES * num_parameters if accumulates else 0,
        "gather buffer": footprint.gather_buffer_bytes if gathers else 0,
        "activations": activations(shares.micro_batch),
        "batch and loss": shares.micro_batch * sample_bytes,
    }
