"""Seen values put in the place of predicted ones, with steps taken back and again.

Lugmayr et al. 2022, "RePaint", arXiv 2201.09865, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from rawdiff.flow.solvers.velocity import Solver, Velocity
from rawdiff.steer.method import Method, Moment


class Replacement(Method):
    """Values that are seen replace those that are predicted; they come out to the bit.

    Noise in the observation is ignored.
    """

    derives: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    num_resamples: int = Field(default=10, ge=1)
    """How often each step is taken, with new noise between, so that the rest comes to agree with
    what is seen; 1: once, by the solver of the settings. [times]"""

    def steer(self, moment: Moment) -> Tensor:
        return moment.evidence.put_into(moment.x)

    def solver(self, own: Solver, noise: Callable[[int], Tensor]) -> Solver:
        return own if self.num_resamples == 1 else resampling(self.num_resamples, noise)


def resampling(num_resamples: int, noise: Callable[[int], Tensor]) -> Solver:
    """Euler's steps, each taken back to its beginning with new noise and repeated."""

    def solve(velocity: Velocity, z: Tensor, times: Tensor) -> Tensor:
        for step, (t, t_next) in enumerate(pairwise(times)):
            again = range(num_resamples if t > 0 else 1)  # at t = 0 all is noise already
            for i in again:
                z_next = z + (t_next - t) * velocity(z, t)
                if i + 1 < len(again):
                    share = t / t_next
                    fresh = ((1 - t).square() - (share * (1 - t_next)).square()).sqrt()
                    z = share * z_next + fresh * noise(step * num_resamples + i)
            z = z_next
        return z

    return solve
