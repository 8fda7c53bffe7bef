"""Stages of the way from noise to samples, kept while these are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class Look:
    """Samples on their way; each function gives [B, C, …] in data units, on the CPU.

    `z_t` is what the network sees of them, `x_pred` what it takes for them.
    """

    z_t: Callable[[], Tensor]
    x_pred: Callable[[], Tensor]


Watch: TypeAlias = Callable[[float, Look], None]
"""watch(t, look) is called whenever the network is asked, at time t."""


class Frames:
    """Stages of a drawing at evenly spaced times from `start` on; the sample itself is the last.

    `part` says what is kept of each: by default x_pred.
    """

    def __init__(
        self,
        num_frames: int,
        start: float,
        part: Callable[[Look], Tensor] = lambda look: look.x_pred(),
    ) -> None:
        self.times = torch.linspace(start, 1, num_frames)[:-1].tolist()
        self.part = part
        self.seen: list[Tensor] = []

    def watch(self, t: float, look: Look) -> None:
        while len(self.seen) < len(self.times) and t >= self.times[len(self.seen)]:
            self.seen.append(self.part(look))

    def with_sample(self, x: Tensor) -> Tensor:
        """All frames [number of them, B, C, …]."""
        late = [x] * (len(self.times) - len(self.seen))  # times after the network's last call
        return torch.stack([*self.seen, *late, x])
