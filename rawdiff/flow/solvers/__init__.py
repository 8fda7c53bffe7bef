"""From noise to data: the ordinary differential equation dz/dt = v(z, t), solved from 0 to 1.

Or a stochastic one with the same z_t, which forgets errors of its earlier steps.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from rawdiff.flow.solvers.ab2 import ab2
from rawdiff.flow.solvers.dpmpp_2m import dpmpp_2m
from rawdiff.flow.solvers.euler import euler
from rawdiff.flow.solvers.heun import heun
from rawdiff.flow.solvers.unipc import unipc
from rawdiff.flow.solvers.velocity import Solver

SolverName: TypeAlias = Literal["euler", "heun", "ab2", "dpmpp_2m", "unipc", "ancestral", "churn"]

SOLVERS: dict[SolverName, Solver] = {
    "euler": euler,
    "heun": heun,
    "ab2": ab2,
    "dpmpp_2m": dpmpp_2m,
    "unipc": unipc,
}
"""Those without noise of their own."""


def num_evaluations(solver: SolverName, num_steps: int) -> int:
    """How often a solver asks for the velocity."""
    return 2 * num_steps - 1 if solver in ("heun", "churn") else num_steps
