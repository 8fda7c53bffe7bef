"""Diffusion posterior sampling. (Chung et al. 2022, arXiv 2209.14687, algorithm 1)"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from rawdiff.steer.method import Method, Moment


class DPS(Method):
    """Each step moves z by -`scale` grad |y - A x|² / |y - A x|, x being E[x | z].

    The observation is as if exact, and what the network is unsure of counts as if it were sure:
    samples follow the observation, but their spread means little. The residual is measured in the
    data's spread.
    """

    scale: float = Field(default=0.3, gt=0)
    """Length of the move. [standard deviations]"""

    def steer(self, moment: Moment) -> Tensor:
        x = moment.x.detach().requires_grad_()
        evidence = moment.evidence
        norm = evidence.scaled_distance(x)
        (x_bar,) = torch.autograd.grad(norm.sum(), x)
        a_step = 2 * self.scale * moment.backward(x_bar)
        return moment.x.detach() - (1 - moment.t) * moment.num_steps * a_step
