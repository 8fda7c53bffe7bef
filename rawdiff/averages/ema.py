"""Moving averages of the weights, in float32, each lying and sharded where its weight is."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from rawdiff.parallel.apply import local
from rawdiff.recipe import EMASettings


@cache
def power_exponent(width: float) -> float:
    """gamma such that the profile of weights t^gamma has this width relative to the run.

    Solves width = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)). (Karras et al. 2024, eq. 118)
    """
    inverse = width**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def beta(settings: EMASettings, samples: int, batch_size: int) -> float:
    """How much of the average a step keeps that ends with `samples` seen."""
    if settings.decay is not None:
        return settings.decay
    assert settings.power is not None
    return (1 - min(batch_size / samples, 1.0)) ** (power_exponent(settings.power) + 1)


class EMA:
    """average = beta average + (1 - beta) weights, after each step; starts as the first weights."""

    def __init__(self, settings: EMASettings, network: nn.Module) -> None:
        self.settings = settings
        self.weights = {
            name: parameter.detach().clone() for name, parameter in network.named_parameters()
        }

    @torch.no_grad()
    def update(self, network: nn.Module, samples: int, batch_size: int, taken: Tensor) -> None:
        """Take the weights in; not one bit changes after a step that was not `taken` (bool [])."""
        share = 1 - beta(self.settings, samples, batch_size)
        on_cpu = taken.device.type == "cpu"
        if on_cpu and not taken:  # where nothing is under way, asking costs nothing
            return
        for average, parameter in zip(self.weights.values(), network.parameters(), strict=True):
            old, weight = local(average), local(parameter.detach())
            if on_cpu:
                old.lerp_(weight, share)
            else:
                lerp_if(taken, old, weight, share)


def lerp_if(taken: Tensor, old: Tensor, weight: Tensor, share: float) -> None:
    """As `old.lerp_(weight, share)` if `taken` (bool [], on the device), and nobody waits for it.

    That is a choice between two values, as a share of 0 would turn infinite ones into NaN.
    """
    torch.where(taken, torch.lerp(old, weight, share), old, out=old)
