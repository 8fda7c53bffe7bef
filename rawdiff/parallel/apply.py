"""What is done to a network from outside, in this order; the network knows one device.

1. Activation checkpointing: a block's activations are computed again in the backward pass.
2. Compile, each block and the last layer by itself, so that equal blocks are compiled once.
3. Sharding (FSDP2) of each block, then of the rest, on a mesh (replicate, shard): float32 weights,
   gradients summed in float32 and not divided, because the loss is normalized over all processes.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from rawdiff.errors import UserError
from rawdiff.model.network import Network
from rawdiff.parallel.processes import Processes
from rawdiff.parallel.settings import ParallelSettings
from rawdiff.precision import Precision, multiplies_in_bfloat16

Forward = Callable[..., Any]
MANY_SHAPES = 1000


def parallelize(
    network: Network, settings: ParallelSettings, processes: Processes, device: torch.device
) -> None:
    """Do all three to a network that holds the same weights on every process."""
    for block in network.units:
        if settings.activation_checkpoint:
            _replace_forward(block, _recomputed)
    if is_compiled(settings, device):
        compile_parts(network)
    if processes.count > 1:
        replicate, shard = mesh_shape(settings, processes)
        mesh = init_device_mesh(
            device.type, (replicate, shard), mesh_dim_names=("replicate", "shard")
        )
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if settings.gather_dtype == "bfloat16" else None,
            reduce_dtype=torch.float32,
            cast_forward_inputs=False,
        )
        for module in (*network.units, network):
            fully_shard(
                module,
                mesh=mesh,
                mp_policy=policy,
                reshard_after_forward=settings.reshard_after_forward,
            )
        for module in network.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo can only sum
        # The output of a linear layer is a view, and nobody writes into it.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")


def is_compiled(settings: ParallelSettings, device: torch.device) -> bool:
    """Whether anything is compiled; `auto`: on a GPU."""
    return settings.compile is True or (settings.compile == "auto" and device.type == "cuda")


def compile_parts(network: Network) -> None:
    """In place, each part by itself."""
    for module in network.compiled_parts:
        _replace_forward(module, compiled)


def compiled(function: Forward) -> Forward:
    """For each shape that it meets, however many there are: samples come in batches of any size."""
    torch._dynamo.config.recompile_limit = MANY_SHAPES
    return torch.compile(function, fullgraph=True, dynamic=False)


def mesh_shape(settings: ParallelSettings, processes: Processes) -> tuple[int, int]:
    """How many groups of processes replicate, and how many of a group share the weights.

    Raises UserError where the two do not make up the processes that were started.
    """
    count = processes.count
    replicate, shard = settings.replicate, settings.shard
    if replicate == "auto":
        here = processes.count_here if count % processes.count_here == 0 else count
        replicate = count // (here if shard == "auto" else shard)
    if shard == "auto":
        shard = count // max(replicate, 1)
    if replicate * shard != count:
        fixed = [name for name in ("replicate", "shard") if getattr(settings, name) != "auto"]
        given = " times ".join(f"`parallel.{name}: {getattr(settings, name)}`" for name in fixed)
        raise UserError(
            f"{given} does not make {count}, the number of processes. Write `parallel.{fixed[-1]}: "
            "auto`, or start as many processes as that needs."
        )
    return replicate, shard


def require_gatherable(
    settings: ParallelSettings, num_processes: int, precision: Precision, device_type: str
) -> None:
    """UserError where weights would be gathered in bfloat16, and multiplied with float32."""
    gathers_bfloat16 = num_processes > 1 and settings.gather_dtype == "bfloat16"
    if gathers_bfloat16 and not multiplies_in_bfloat16(precision, device_type):
        on_cpu = " on a CPU" if precision == "auto" else ""
        raise UserError(
            f"`parallel.gather_dtype: bfloat16` gathers weights for products in bfloat16, but "
            f"`train.precision: {precision}` multiplies in float32{on_cpu}. Write "
            "`train.precision: bfloat16`, or `parallel.gather_dtype: float32`."
        )


def _replace_forward(block: nn.Module, wrap: Callable[[Forward], Forward]) -> None:
    """In place: the names of modules and weights stay, and hooks stay outside."""
    block.forward = wrap(block.forward)


def _recomputed(forward: Forward) -> Forward:
    return functools.partial(checkpoint, forward, use_reentrant=False)


def add_gradients_up(network: nn.Module, settings: ParallelSettings, *, now: bool) -> None:
    """Whether the next backward pass sums gradients over processes, or only keeps its own.

    If it keeps its own, gathered weights stay for the next micro-batch, as they do between forward
    and backward pass.
    """
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(now)
        network.set_reshard_after_backward(now or settings.reshard_after_forward)


def local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor that lies here, sharing its memory; others as they are."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together on every process; others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def all_whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As `whole`, of each."""
    return {name: whole(tensor) for name, tensor in tensors.items()}


def named_tensors(state: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Nested tensors by their names in a checkpoint; what is no tensor is left out."""
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            named[f"{prefix}{key}"] = value
        elif isinstance(value, Mapping):
            named |= named_tensors(value, f"{prefix}{key}.")
    return named
