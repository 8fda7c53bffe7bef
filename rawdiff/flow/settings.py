"""What the network predicts, what the loss compares and at which times, under `flow:`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from rawdiff.settings import Settings

Space: TypeAlias = Literal["x", "eps", "v"]


class FlowSettings(Settings):
    """z_t = t x + (1 - t) eps; t = 0 is noise, t = 1 is data.

    `prediction` is what the network's output means, `loss` the space in which it is compared.
    Times are sigmoid(P_mean + P_std n), n ~ N(0, 1), or uniform. `noise_scale` is the spread of
    the noise relative to standardized data. `t_eps` bounds the 1 - t (and t) that training divides
    by. Labels are dropped with probability `label_drop`, for guidance. (arXiv 2511.13720)
    """

    prediction: Space = "x"
    loss: Space = "v"
    time: Literal["logit-normal", "uniform"] = "logit-normal"
    P_mean: float = -0.8
    P_std: float = Field(default=0.8, gt=0)
    noise_scale: float = Field(default=1.0, gt=0)
    t_eps: float = Field(default=0.05, gt=0, lt=1)
    label_drop: float = Field(default=0.1, ge=0, le=1)
