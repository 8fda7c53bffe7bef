"""First weights of the Transformer, as published: a function of seed and name (Philox)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rawdiff import philox
from rawdiff.model.layers import LayerNorm, RMSNorm

EMBEDDING_STD = 0.02


@torch.no_grad()
def initialize(model: nn.Module, seed: int) -> None:
    """Fill every parameter of the model in place.

    Linear layers Xavier-uniform with zero bias; label and in-context tables and the time layers
    normal with std 0.02; every adaLN layer and the last linear layer zero; norms one.
    Each parameter's values depend on the seed and its name alone.
    """
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
            parameter.copy_(_first_values(module, module_name, name, parameter, seed))


def _first_values(
    module: nn.Module, module_name: str, name: str, parameter: Tensor, seed: int
) -> Tensor:
    if isinstance(module, RMSNorm | LayerNorm):
        return torch.full_like(parameter, name.endswith("weight"))
    if name.endswith("bias") or "modulation" in module_name or module_name == "last_layer.linear":
        return torch.zeros_like(parameter)
    stream, index = philox.Stream.WEIGHTS, philox.name_index(name, parameter.device)
    if isinstance(module, nn.Linear) and not module_name.startswith("time_embedding"):
        bound = math.sqrt(6 / sum(parameter.shape))
        values = bound * (2 * philox.uniform(seed, stream, index, parameter.numel()) - 1)
    else:
        values = EMBEDDING_STD * philox.normal(seed, stream, index, parameter.numel())
    return values.view_as(parameter)
