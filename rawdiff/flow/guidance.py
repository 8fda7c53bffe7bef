"""Guidance, by the network without the label or by a weaker one, inside an interval of times.

Ho and Salimans 2022; Kynkäänniemi et al. 2024; Karras et al. 2024 (arXiv 2406.02507).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from rawdiff.flow.solvers.velocity import Velocity

LabelVelocity: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""v(z, t, label) with t [B] and label [B] or None; B may be twice the number of samples."""

Change: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""d(d, x): another difference x_label - x_none, for that one and x_label."""


def acts(t: Tensor, interval: tuple[float, float]) -> bool:
    """True for low < t < high (from t = 0 on if low is 0), compared in float32."""
    low, high = (torch.tensor(bound, dtype=torch.float32) for bound in interval)
    return bool((t < high) & ((low == 0) | (t > low)))


def guided(
    velocity: LabelVelocity,
    label: Tensor | None,
    no_label: int,
    *,
    cfg_scale: float,
    cfg_interval: tuple[float, float],
    change: Change | None = None,
    t_eps: float = 1e-3,
) -> Velocity:
    """v_none + cfg_scale (v_label - v_none) inside the interval, v_label outside.

    With a `change` it is v_label + (cfg_scale - 1) v_d, where v_d is what that makes of the
    difference of both predictions of x, as a velocity; `t_eps` bounds the 1 - t between the two.
    Both halves run as one batch [2B]; the half without label runs only where it counts. Without
    labels (None) there is nothing to guide by.
    """

    def v(z: Tensor, t: Tensor) -> Tensor:
        times = t.to(z.device).expand(len(z))
        if label is None or cfg_scale == 1 or not acts(t, cfg_interval):
            return velocity(z, times, label)
        none = torch.full_like(label, no_label)
        v_label, v_none = velocity(
            torch.cat((z, z)), torch.cat((times, times)), torch.cat((label, none))
        ).chunk(2)
        if change is not None:
            left = (1 - t).clamp(min=t_eps)
            d = change(left * (v_label - v_none), z + left * v_label)
            return v_label + (cfg_scale - 1) * d / left
        return v_none + cfg_scale * (v_label - v_none)

    return v


def autoguided(
    velocity: Velocity, weaker: Velocity, *, scale: float, interval: tuple[float, float]
) -> Velocity:
    """v_weaker + scale (v - v_weaker) inside the interval, v outside, where nothing else runs."""

    def v(z: Tensor, t: Tensor) -> Tensor:
        strong = velocity(z, t)
        if scale == 1 or not acts(t, interval):
            return strong
        weak = weaker(z, t)
        return weak + scale * (strong - weak)

    return v
