"""Small generated forecasts with missing values, and scores set up for them."""

from dataclasses import dataclass

import numpy as np
import torch
from rawdiff_weather.scores import ForecastScores
from torch import Tensor

LATITUDES = np.linspace(80, -80, 9)
LONGITUDES = np.arange(0, 360, 30.0)
CHANNELS = ("geopotential@500", "sst")


@dataclass
class Forecasts:
    """Inits T: members [T, M, C, H, W], truth and climatology [T, C, H, W], float32."""

    members: Tensor
    truth: Tensor
    climatology: Tensor


def forecasts(num_members: int, *, num_inits: int = 4, missing: bool = True) -> Forecasts:
    """Large values, as of geopotential; gaps in truth, in one member, and land in one channel."""
    generator = torch.Generator().manual_seed(num_members)
    grid = len(CHANNELS), len(LATITUDES), len(LONGITUDES)
    climatology = 54_000 + 100 * torch.randn(num_inits, *grid, generator=generator)
    signal = climatology + 30 * torch.randn(num_inits, *grid, generator=generator)
    noise = 20 * torch.randn(num_inits, num_members, *grid, generator=generator)
    truth = signal + 25 * torch.randn(num_inits, *grid, generator=generator)
    members = signal[:, None] + 3 + noise
    if missing:
        truth[torch.rand(truth.shape, generator=generator) < 0.1] = torch.nan
        members[-1, -1, 0, 2:4, 3] = torch.nan
        truth[:, 1, :4, :5] = torch.nan
    return Forecasts(members, truth, climatology)


def empty_scores(num_members: int, **settings: object) -> ForecastScores:
    return ForecastScores(CHANNELS, LATITUDES, LONGITUDES, num_members=num_members, **settings)


def scores_of(cases: Forecasts, **settings: object) -> ForecastScores:
    """All inits at lead 6."""
    scores = empty_scores(cases.members.shape[1], **settings)
    for members, truth, climatology in zip(
        cases.members, cases.truth, cases.climatology, strict=True
    ):
        scores.update(6, members, truth, climatology)
    return scores


def table(scores: ForecastScores, region: str = "global", lead: int = 6) -> dict[str, list[float]]:
    """Each score by channel."""
    values: dict[str, list[float]] = {}
    for row in scores.result()["scores"]:
        if row["region"] == region and row["lead"] == lead:
            values.setdefault(row["score"], []).append(row["value"])
    return values
