"""What a solver takes: the velocity that the network sees, and noise of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

Velocity: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""v(z, t) for z [B, …] and one time t for all (a float32 tensor without dims)."""

Solver: TypeAlias = Callable[[Velocity, Tensor, Tensor], Tensor]
"""From z [B, …] at the first of ascending times [num_steps + 1] to z at the last, 1 or before."""

StepNoise: TypeAlias = Callable[[int], Tensor]
"""New noise for the step of this number, of the shape of z and the spread of eps."""
