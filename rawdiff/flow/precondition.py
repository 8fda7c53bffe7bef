"""Pre-conditioners: x_pred = c_skip(t) z_t + c_out(t) F, with F the network's raw output.

They let the input pass beside the network. The paper shows that each of them hurts at large
patches, so plain x-prediction (x_pred = F) is the default. (Li and He 2025, Table 10)
"""

from __future__ import annotations

from torch import Tensor

from rawdiff.flow.prediction import expand
from rawdiff.flow.settings import FlowSettings


def coefficients(t: Tensor, flow: FlowSettings) -> tuple[Tensor, Tensor]:
    """c_skip and c_out at times t [B].

    `linear`: t and 1 - t. `edm`: those of Karras et al. 2022 (arXiv 2206.00364, Table 1), which
    stand for data plus noise of spread sigma = noise_scale (1 - t) / t, here z_t / t.
    """
    if flow.precondition == "linear":
        return t, 1 - t
    data, noise = flow.sigma_data * t, flow.noise_std * (1 - t)
    square = data.square() + noise.square()
    return flow.sigma_data * data / square, flow.sigma_data * noise / square.sqrt()


def precondition(output: Tensor, z_t: Tensor, t: Tensor, flow: FlowSettings) -> Tensor:
    """The network's raw output [B, N, P] for z_t at t [B], pre-conditioned as the recipe says."""
    if flow.precondition == "none":
        return output
    c_skip, c_out = (expand(c, z_t) for c in coefficients(t, flow))
    return c_skip * z_t + c_out * output
