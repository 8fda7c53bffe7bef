"""Where a patch lies, told to the network: rotary embedding and a fixed table, over any axes.

Both share out frequencies 10000^(-k/n), k = 0 … n - 1, among the axes. On a periodic axis each
frequency is a whole number of turns a period, so that the first and last patch stay neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BASE = 10000.0


def shares(num_pairs: int, num_axes: int) -> list[int]:
    """Pairs of values for each axis: equal, the remainder to the first axes."""
    return [num_pairs // num_axes + (axis < num_pairs % num_axes) for axis in range(num_axes)]


def frequencies(num: int, period: float | None) -> Tensor:
    """Angles in radians for a step of one patch, float32 [num]."""
    freqs = BASE ** (-torch.arange(num, dtype=torch.float32, device="cpu") / max(num, 1))
    if period is not None:
        turn = 2 * math.pi / period
        # At least one turn: a slower wave than the period would only be a constant.
        freqs = (freqs / turn).round().clamp(min=1) * turn
    return freqs


def rotary_angles(
    positions: Tensor, periods: Sequence[float | None], head_width: int
) -> tuple[Tensor, Tensor]:
    """cos and sin [..., N, head_width / 2] of the angles by which pairs of values turn.

    `positions` is [..., N, number of axes], in patches. (Su et al. 2021, over several axes)
    """
    num_pairs = shares(head_width // 2, len(periods))
    angles = torch.cat(
        [
            positions[..., axis, None] * frequencies(num, period).to(positions.device)
            for axis, (num, period) in enumerate(zip(num_pairs, periods, strict=True))
        ],
        dim=-1,
    )
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring values of x [B, heads, N, d] as pairs: (a, b) to
    (a cos - b sin, b cos + a sin); cos and sin are [N, d/2] or [B, 1, N, d/2]."""
    a, b = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2).type_as(x)


def position_table(positions: Tensor, periods: Sequence[float | None], width: int) -> Tensor:
    """Sines, then cosines of each axis's angles, the last axis first: [..., N, width].

    The table of the vision Transformers (He et al. 2022), over any number of axes. An odd width
    leaves its last value zero.
    """
    num_pairs = shares(width // 2, len(periods))
    parts = []
    for axis, num in zip(reversed(range(len(periods))), num_pairs, strict=True):
        freqs = frequencies(num, periods[axis]).to(positions.device)
        angles = positions[..., axis, None] * freqs
        parts += [angles.sin(), angles.cos()]
    table = torch.cat(parts, dim=-1)
    return torch.nn.functional.pad(table, (0, width - table.shape[-1]))
