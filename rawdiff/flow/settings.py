"""What the network predicts, what the loss compares and at which times, under `flow:`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from rawdiff.settings import Settings

Space: TypeAlias = Literal["x", "eps", "v"]

REFERENCE_LENGTH = 256  # of a side of the pictures for which a noise_scale of 1 was found


def auto_noise_scale(sizes: Sequence[int]) -> float:
    """The spread of noise that hides as much of a scene on a grid of these sizes as 1 on 256².

    The mean over k values keeps the scene and divides the noise's spread by sqrt(k): a finer grid
    of the same scene needs noise that grows with the root of its number of points. (Hoogeboom et
    al. 2023, arXiv 2301.11093, section 3; 1, 2, 4 at 256, 512, 1024: arXiv 2511.13720, Table 9)
    """
    return math.sqrt(math.prod(sizes)) / REFERENCE_LENGTH


class FlowSettings(Settings):
    """z_t = t x + (1 - t) eps; t = 0 is noise, t = 1 is data. (arXiv 2511.13720)"""

    prediction: Space = "x"
    """What the network's output means: the clean data, the noise, or the velocity x - eps."""
    loss: Space = "v"
    """The space in which it is compared with the truth."""
    time: Literal["logit-normal", "uniform"] = "logit-normal"
    """Times of training: sigmoid(P_mean + P_std n) with n ~ N(0, 1), or uniform."""
    P_mean: float = -0.8
    """Mean of logit(t): lower values train more on noise. [-]"""
    P_std: float = Field(default=0.8, gt=0)
    """Spread of logit(t). [-]"""
    noise_scale: Annotated[float, Field(gt=0)] | Literal["auto"] = 1.0
    """Spread of the noise relative to standardized data; `auto`: the root of the number of grid
    points, over 256. [standard deviations]"""
    t_eps: float = Field(default=0.05, gt=0, lt=1)
    """Smallest 1 - t (and t) that training divides by. [t]"""
    label_drop: float = Field(default=0.1, ge=0, le=1)
    """Probability that a label is dropped, for guidance. [-]"""
    precondition: Literal["none", "linear", "edm"] = "none"
    """How the input passes beside the network: not at all, or as written in the published ablation
    or by Karras et al. 2022."""
    sigma_data: float = Field(default=0.5, gt=0)
    """Spread of standardized data that `precondition: edm` counts on. [standard deviations]"""

    @model_validator(mode="after")
    def _agree(self) -> FlowSettings:
        if self.precondition != "none" and self.prediction != "x":
            raise ValueError(
                f"a pre-conditioner makes x_pred, but the prediction is {self.prediction}; "
                "write `prediction: x` or `precondition: none`"
            )
        return self

    def resolved(self, shape: Sequence[int]) -> FlowSettings:
        """With a number for `noise_scale: auto`, for samples of shape (C, …)."""
        if self.noise_scale != "auto":
            return self
        return self.model_copy(update={"noise_scale": auto_noise_scale(shape[1:])})

    @property
    def noise_std(self) -> float:
        """`noise_scale` as a number; only of resolved settings."""
        assert self.noise_scale != "auto", "resolve the settings with the shape of the samples"
        return self.noise_scale
