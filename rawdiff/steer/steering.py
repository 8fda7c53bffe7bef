"""Samples that agree with an observation: each prediction is moved to E[x | z_t, y]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rawdiff.flow.solvers import Velocity
from rawdiff.steer.evidence import Evidence
from rawdiff.steer.method import Method, Moment

T_MIN = 0.01
"""Before it, the network is asked for this time: at t = 0, z says nothing of x and V is 0 / 0."""


@dataclass(frozen=True)
class Steering:
    """A method with what it is told. `t_eps` bounds the 1 - t that is divided by."""

    method: Method
    evidence: Evidence
    noise_std: float  # of eps
    t_eps: float
    num_steps: int

    def around(self, velocity: Velocity) -> Velocity:
        """dz/dt towards E[x | z_t, y] instead of E[x | z_t], for a velocity of whole samples."""

        def steered(z: Tensor, t: Tensor) -> Tensor:
            asked = t.clamp(min=T_MIN)
            with torch.set_grad_enabled(self.method.derives):
                z = z.detach().requires_grad_(self.method.derives)
                x = z + (1 - asked).clamp(min=self.t_eps) * velocity(z, asked)
                moment = Moment(
                    z=z,
                    x=x,
                    t=asked,
                    spread=((1 - asked) * self.noise_std).square() / asked,
                    evidence=self.evidence,
                    num_steps=self.num_steps,
                )
                x = self.method.steer(moment).detach()
            x = self.evidence.patcher.project(x, self.evidence.known)
            return (x - z.detach()) / (1 - t).clamp(min=self.t_eps)

        return steered

    def finish(self, x: Tensor) -> Tensor:
        """Samples [B, C, …] in data units, with what an exact method keeps to the bit."""
        if not self.method.exact:
            return x
        y = self.evidence.values.to(x.device)
        return torch.where(y.isnan(), x, y)
