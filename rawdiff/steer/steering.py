"""Samples that agree with an observation: each prediction is moved to E[x | z_t, y]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rawdiff import philox
from rawdiff.flow.solvers.euler import euler
from rawdiff.flow.solvers.velocity import Solver, Velocity
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

    def solve(
        self,
        solver: Solver,
        velocity: Velocity,
        z: Tensor,
        times: Tensor,
        *,
        noise: Callable[[int], Tensor],
        watched: Callable[[Velocity], Velocity],
    ) -> Tensor:
        """x from z [B, N, P] at the first of `times`, for a `velocity` of whole samples.

        noise(M) is a standard normal draw [B, M]. `watched` is laid around what the solver sees.
        """
        memory: list[tuple[float, Tensor]] = []
        steered = watched(self._towards(velocity, memory, None))
        if not self.method.drawn_at_last:
            return solver(steered, z, times)
        if len(times) > 2:
            z = solver(steered, z, times[:-1])
        drawn = noise(self.evidence.y.shape[1])
        return euler(watched(self._towards(velocity, memory, drawn)), z, times[-2:])

    def _towards(
        self, velocity: Velocity, memory: list[tuple[float, Tensor]], noise: Tensor | None
    ) -> Velocity:
        """dz/dt towards E[x | z_t, y]."""

        def steered(z: Tensor, t: Tensor) -> Tensor:
            asked = t.clamp(min=T_MIN)
            with torch.set_grad_enabled(self.method.derives):
                z = z.detach().requires_grad_(self.method.derives)
                x = z + (1 - asked).clamp(min=self.t_eps) * velocity(z, asked)
                moment = self._moment(z, x, asked, memory, noise)
                x = self.method.steer(moment).detach()
            x = self.evidence.patcher.project(x, self.evidence.known)
            return (x - z.detach()) / (1 - t).clamp(min=self.t_eps)

        return steered

    def _moment(
        self,
        z: Tensor,
        x: Tensor,
        t: Tensor,
        memory: list[tuple[float, Tensor]],
        noise: Tensor | None,
    ) -> Moment:
        variance = ((1 - t) * self.noise_std).square()
        spread = (variance / t).to(z.device).expand(len(z), 1, 1)
        moment = Moment(z, x, t, spread, self.evidence, self.num_steps, memory, noise)
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
        most = signs.square().sum((1, 2), keepdim=True) * variance / (t.square() + variance)
        bound = MAX_OVER_PRIOR * most / trace.clamp(min=torch.finfo(trace.dtype).tiny)
        return replace(moment, spread=torch.minimum(spread, bound))

    def finish(self, x: Tensor) -> Tensor:
        """Samples [B, C, …] in data units, with what an exact method keeps to the bit."""
        if not self.method.exact:
            return x
        y = self.evidence.values.to(x.device)
        return torch.where(y.isnan(), x, y)
