"""At which times a solver looks: from `start` to 1, ascending, float32 on the CPU.

sigma = noise_std (1 - t) / t is the spread of the noise on data that are not shrunk (z_t / t), with
a spread of 1 after standardization.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rawdiff.errors import UserError

TimesName: TypeAlias = Literal["linear", "shifted", "logsnr", "edm"]

RHO = 7  # of Karras et al. 2022, Table 1


def linear(num_steps: int, start: float = 0.0) -> Tensor:
    """num_steps + 1 evenly spaced times."""
    return torch.linspace(start, 1, num_steps + 1)


def shifted(num_steps: int, start: float, shift: float) -> Tensor:
    """Those evenly spaced with sigma `shift` times as large: t / (t + shift (1 - t)).

    Above 1 there are more steps where noise is strong, as large samples need. (Esser et al. 2024,
    arXiv 2403.03206, eq. 23)
    """
    first = shift * start / (1 + (shift - 1) * start)  # which is shifted to `start`
    t = torch.linspace(first, 1, num_steps + 1, dtype=torch.float64)
    return _between(start, t / (t + shift * (1 - t)))


def logsnr(
    num_steps: int, start: float, sigma_range: tuple[float, float], noise_std: float
) -> Tensor:
    """Times at which log(sigma) is evenly spaced, as `_from_sigma` says."""
    low, high = _bounds(start, sigma_range, noise_std)
    share = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    sigma = torch.exp(math.log(high) + share * (math.log(low) - math.log(high)))
    return _from_sigma(sigma, start, noise_std)


def edm(num_steps: int, start: float, sigma_range: tuple[float, float], noise_std: float) -> Tensor:
    """Times at which sigma^(1/7) is evenly spaced, as `_from_sigma` says. (arXiv 2206.00364, eq. 5)

    Most steps lie where noise is weak.
    """
    low, high = (bound ** (1 / RHO) for bound in _bounds(start, sigma_range, noise_std))
    share = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    return _from_sigma((high + share * (low - high)) ** RHO, start, noise_std)


def _bounds(
    start: float, sigma_range: tuple[float, float], noise_std: float
) -> tuple[float, float]:
    """Smallest and largest sigma on the way from `start`."""
    low, high = sigma_range
    if start:
        high = noise_std * (1 - start) / start
    if high <= low:
        raise UserError(
            f"At `sample.start` {start} the noise has a spread of {high:.3g}, no more than "
            f"`sample.sigma_range` begins with ({low:g}). Begin earlier, lower that bound, or "
            "write `sample.times: linear`."
        )
    return low, high


def _from_sigma(sigma: Tensor, start: float, noise_std: float) -> Tensor:
    """The times of descending sigma [num_steps], and 1.

    The largest is taken for the noise at `start`: at t = 0, where sigma is infinite, it stands for
    noise alone.
    """
    return _between(start, torch.cat((noise_std / (noise_std + sigma), sigma.new_ones(1))))


def _between(start: float, times: Tensor) -> Tensor:
    """Times in float32 whose ends are `start` and 1 exactly. UserError unless they ascend."""
    found = times.float()
    found[0], found[-1] = start, 1
    if not bool((found.diff() > 0).all()):
        raise UserError(
            f"{len(found) - 1} steps from t = {start} lie closer than numbers of 32 bits can tell. "
            "Take fewer, a `sample.shift` nearer to 1, or a larger first `sample.sigma_range`."
        )
    return found
