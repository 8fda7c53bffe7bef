"""Samples that agree with an observation: each prediction is moved to E[x | z_t, y]."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rawdiff import philox
from rawdiff.flow.solvers.velocity import Velocity
from rawdiff.flow.times import halved
from rawdiff.steer.evidence import Evidence
from rawdiff.steer.method import Method, Moment

T_MIN = 0.01
"""Before it, the network is asked for this time: at t = 0, z says nothing of x and V is 0 / 0."""

T_EARLY, MAX_OVER_PRIOR = 0.2, 2.0
"""Until then V is held to so many times what it can be: networks hardly learn dx/dz near t = 0."""


@dataclass(frozen=True)
class Steering:
    """A method with what it is told. `t_eps` bounds the 1 - t that is divided by."""

    method: Method
    evidence: Evidence
    noise_std: float  # of eps
    t_eps: float
    num_steps: int

    def around(self, velocity: Velocity) -> Velocity:
        """dz/dt towards E[x | z_t, y] instead of E[x | z_t], for a velocity of whole samples.

        For one way from noise to data: the method may remember what it found before.
        """
        memory: list[tuple[float, Tensor]] = []

        def steered(z: Tensor, t: Tensor) -> Tensor:
            asked = t.clamp(min=T_MIN)
            with torch.set_grad_enabled(self.method.derives):
                z = z.detach().requires_grad_(self.method.derives)
                x = z + (1 - asked).clamp(min=self.t_eps) * velocity(z, asked)
                x = self.method.steer(self._moment(z, x, asked, memory)).detach()
            x = self.evidence.patcher.project(x, self.evidence.known)
            return (x - z.detach()) / (1 - t).clamp(min=self.t_eps)

        return steered

    def times(self, times: Tensor) -> Tensor:
        """Those of a solver, with further ones before the last where the method wants less noise.

        In one step from much noise of z, what is seen would come out with less spread than the
        observation leaves. 1 - t stays near `t_eps` or above. They depend on no observed value.
        """
        most = self.method.noise_before_end()
        sharpness = 0.0 if most is None else self.evidence.sharpness()
        if most is None or not sharpness:
            return times
        return halved(times, max(most / (sharpness * self.noise_std), self.t_eps))

    def _moment(
        self, z: Tensor, x: Tensor, t: Tensor, memory: list[tuple[float, Tensor]]
    ) -> Moment:
        noise = ((1 - t) * self.noise_std).square()
        spread = (noise / t).to(z.device).expand(len(z), 1, 1)
        moment = Moment(z, x, t, spread, self.evidence, self.num_steps, memory)
        if not self.method.derives or t > T_EARLY:
            return moment
        # The trace of dx/dz, by one row of signs; that of V is at most this for data of spread 1.
        row = torch.zeros(1, dtype=torch.int64)  # one for all samples
        signs = philox.signs(0, philox.Stream.RESAMPLE_NOISE, row, x[0].numel())
        signs = signs.to(x).view_as(x[:1])
        if self.evidence.known is not None:
            signs = signs * self.evidence.known
        signs = signs.expand_as(x)
        trace = (moment.backward(signs) * signs).sum((1, 2), keepdim=True)
        most = signs.square().sum((1, 2), keepdim=True) * noise / (t.square() + noise)
        bound = MAX_OVER_PRIOR * most / trace.clamp(min=torch.finfo(trace.dtype).tiny)
        return replace(moment, spread=torch.minimum(spread, bound))

    def finish(self, x: Tensor) -> Tensor:
        """Samples [B, C, …] in data units, with what an exact method keeps to the bit."""
        if not self.method.exact:
            return x
        y = self.evidence.values.to(x.device)
        return torch.where(y.isnan(), x, y)
