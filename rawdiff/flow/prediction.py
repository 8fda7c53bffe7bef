"""The three views of one prediction: x, eps and v, each from any other, given z_t and t.

z_t = t x + (1 - t) eps and v = x - eps. Where 1 - t or t is divided by, it is at least t_eps.
(Li and He 2025, Table 1)
"""

from __future__ import annotations

from torch import Tensor

from rawdiff.flow.settings import Space


def expand(t: Tensor, like: Tensor) -> Tensor:
    """t [B] with as many dims as `like` [B, …]."""
    return t.view(-1, *(1,) * (like.dim() - 1))


def x_from(output: Tensor, space: Space, z_t: Tensor, t: Tensor, t_eps: float) -> Tensor:
    """The clean data that a prediction in `space` stands for; shape of z_t."""
    t = expand(t, z_t)
    if space == "x":
        return output
    if space == "eps":
        return (z_t - (1 - t) * output) / t.clamp(min=t_eps)
    return z_t + (1 - t) * output


def eps_from(output: Tensor, space: Space, z_t: Tensor, t: Tensor, t_eps: float) -> Tensor:
    """The noise that a prediction in `space` stands for; shape of z_t."""
    t = expand(t, z_t)
    if space == "x":
        return (z_t - t * output) / (1 - t).clamp(min=t_eps)
    if space == "eps":
        return output
    return z_t - t * output


def v_from(output: Tensor, space: Space, z_t: Tensor, t: Tensor, t_eps: float) -> Tensor:
    """dz/dt at z_t for a prediction in `space`; shape of z_t. (eq. 5 for x)"""
    t = expand(t, z_t)
    if space == "x":
        return (output - z_t) / (1 - t).clamp(min=t_eps)
    if space == "eps":
        return (z_t - output) / t.clamp(min=t_eps)
    return output


VIEWS = {"x": x_from, "eps": eps_from, "v": v_from}
