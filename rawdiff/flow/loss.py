"""What training compares: noisy samples made from clean ones, and squared errors in any space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff import philox
from rawdiff.flow.prediction import VIEWS, expand
from rawdiff.flow.settings import FlowSettings


@dataclass(frozen=True)
class Noised:
    """x and eps [B, N, P], t [B] and what they make: z_t [B, N, P]."""

    x: Tensor
    eps: Tensor
    t: Tensor
    z_t: Tensor


def draw_times(flow: FlowSettings, seed: int, index: Tensor) -> Tensor:
    """t [B] for the samples at `index` [B] of a run."""
    if flow.time == "uniform":
        return philox.uniform(seed, philox.Stream.TIME, index, 1)[:, 0]
    n = philox.normal(seed, philox.Stream.TIME, index, 1)[:, 0]
    return torch.sigmoid(flow.P_mean + flow.P_std * n)


def add_noise(x: Tensor, flow: FlowSettings, seed: int, index: Tensor) -> Noised:
    """Noise clean patches x [B, N, P], each at its own time."""
    eps = draw_noise(x, flow, seed, index)
    return interpolate(x, eps, draw_times(flow, seed, index))


def draw_noise(x: Tensor, flow: FlowSettings, seed: int | Tensor, index: Tensor) -> Tensor:
    """eps for clean patches x [B, N, P], the samples at `index` [B] of a run.

    The seed is a number, or a tensor [] of one where this is compiled.
    """
    eps = philox.normal(seed, philox.Stream.NOISE, index, x[0].numel()).view_as(x)
    return flow.noise_std * eps


def interpolate(x: Tensor, eps: Tensor, t: Tensor) -> Noised:
    """z_t = t x + (1 - t) eps."""
    t_ = expand(t, x)
    return Noised(x=x, eps=eps, t=t, z_t=t_ * x + (1 - t_) * eps)


def drop_labels(
    label: Tensor, no_label: int, flow: FlowSettings, seed: int, index: Tensor
) -> Tensor:
    """Replace labels [B] by "none" with probability `label_drop`, for classifier-free guidance."""
    u = philox.uniform(seed, philox.Stream.LABEL_DROP, index, 1)[:, 0]
    return torch.where(u < flow.label_drop, no_label, label)


def squared_error(output: Tensor, noised: Noised, flow: FlowSettings) -> Tensor:
    """Squared difference of prediction and truth in the loss's space: [B, N, P].

    A perfect prediction takes the same road, so that it costs nothing where a division is bounded.
    """
    perfect = {"x": noised.x, "eps": noised.eps, "v": noised.x - noised.eps}[flow.prediction]
    prediction, truth = (
        VIEWS[flow.loss](values, flow.prediction, noised.z_t, noised.t, flow.t_eps)
        for values in (output, perfect)
    )
    return (prediction - truth).square()
