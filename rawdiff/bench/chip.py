"""What the machine could give: operations a second, and memory."""

from __future__ import annotations

import torch

from rawdiff.bench.measured import Chip
from rawdiff.errors import UserError
from rawdiff.model.network import Network
from rawdiff.parallel.batch import Shares
from rawdiff.parallel.footprint import measure_footprint
from rawdiff.precision import host_memory, multiplies_in_bfloat16
from rawdiff.recipe import Recipe
from rawdiff.saved.environment import describe_environment
from rawdiff.train.cost import matmul_flops, peak_flops
from rawdiff.train.memory import Activations, measure_activations, memory_parts

USABLE = 0.9  # of the memory; the rest is for libraries and gaps between tensors
MATRIX = {"cpu": 1024, "cuda": 8192}  # large enough for the speed of a large one


def precision_name(recipe: Recipe, device: torch.device) -> str:
    in_bfloat16 = multiplies_in_bfloat16(recipe.train.precision, device.type)
    return "bfloat16" if in_bfloat16 else "float32"


def look_at_chip(recipe: Recipe, device: torch.device) -> Chip:
    """By the vendor's data sheet where it is known, else by a matrix product that is timed."""
    precision = precision_name(recipe, device)
    peak, source = peak_flops(device), "the dense bfloat16 peak of its data sheet"
    if peak is None:
        peak = matmul_flops(device, getattr(torch, precision), MATRIX[device.type])
        source = f"a {precision} matrix product that was timed here"
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[1]
        return Chip(torch.cuda.get_device_name(device), peak, source, memory, is_gpu=True)
    facts = describe_environment()
    threads = torch.get_num_threads()
    name = f"{facts['cpu'] or facts['processor']}, {threads} thread{'' if threads == 1 else 's'}"
    return Chip(name, peak, source, host_memory(), is_gpu=False)


def memory_for(recipe: Recipe, network: Network) -> Activations:
    """Bytes of a single process on a CPU, as a function of the micro-batch."""
    in_bfloat16 = multiplies_in_bfloat16(recipe.train.precision, "cpu")
    recomputes = recipe.parallel.activation_checkpoint
    kept = measure_activations(network, bfloat16=in_bfloat16, recomputes=recomputes)
    footprint = measure_footprint(network, recipe.parallel, (1, 1))
    state = memory_parts(network, footprint, recipe.train, Activations(0, 0), Shares(1, 1))
    return Activations(sum(state.values()) + kept.once, kept.a_sample)


def require_memory(needed: Activations, chip: Chip) -> None:
    """UserError where this machine cannot hold the training of a single sample."""
    if needed(1) > USABLE * chip.memory_bytes:
        raise UserError(
            f"Training this recipe takes {needed(1) / 2**30:.1f} GiB for one sample at a time, but "
            f"this machine has {chip.memory_bytes / 2**30:.1f} GiB. Bench it where it is to be "
            "trained, or a smaller `model`; `rawdiff check` plans it for GPUs that are not here."
        )
