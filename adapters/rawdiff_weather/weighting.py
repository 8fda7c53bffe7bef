"""How much the errors of each value weigh: by area, variable and level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from rawdiff.errors import UserError
from rawdiff_weather.area import area_weights
from rawdiff_weather.axes import Fields
from rawdiff_weather.selection import Channel, Plan

LevelWeights: TypeAlias = Literal["equal", "pressure"]


def weights(
    plan: Plan, *, by_area: bool, of_variables: Mapping[str, float], of_levels: LevelWeights
) -> Fields | None:
    """What broadcasts to [C, H, W]; areas and levels are 1 in their mean. None: all alike."""
    weight = channel_weights(plan.channels, of_variables, of_levels)
    if not by_area:
        return weight
    area = area_weights(plan.latitude.tolist(), len(plan.longitude)).float().numpy()
    return area if weight is None else weight * area


def channel_weights(
    channels: Sequence[Channel], of_variables: Mapping[str, float], of_levels: LevelWeights
) -> Fields | None:
    """[C, 1, 1], those of levels 1 in their mean; None where all are alike."""
    names = {name for channel in channels for name in (channel.name, channel.variable)}
    if unknown := sorted(of_variables.keys() - names):
        raise UserError(
            f"`variable_weights` names {', '.join(unknown)}, which is not predicted. There are: "
            f"{', '.join(channel.name for channel in channels)}."
        )
    if not of_variables and of_levels == "equal":
        return None
    weights = np.array(
        [of_variables.get(c.name, of_variables.get(c.variable, 1)) for c in channels]
    )
    levels = np.array([np.nan if c.level is None else c.level for c in channels])
    if of_levels == "pressure" and not np.isnan(levels).all():
        weights = weights * np.nan_to_num(levels / np.nanmean(levels), nan=1.0)
    return weights.astype(np.float32)[:, None, None]
