"""The keys under `data:` of fields."""

from __future__ import annotations

from abc import ABC
from typing import Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from rawdiff.series import Series
from rawdiff.settings import Settings
from rawdiff_weather.background import BackgroundSettings
from rawdiff_weather.framing import Forcing, Target
from rawdiff_weather.times import Date
from rawdiff_weather.weighting import LevelWeights


class ClimatologySettings(Settings):
    """The mean of each season: month; day; day and hour, by the step of the data."""

    time: tuple[Date, Date]
    """First and last time of the training data; stays so for held-out data."""


class WeatherSettings(Series, ABC):
    """Which fields are read, which of them are predicted, and how their errors weigh."""

    path: str | tuple[str, ...]
    """One or several stores (any fsspec URL), files or patterns of them."""
    variables: tuple[str, ...] = Field(min_length=1)
    """Names of the fields that are predicted, in this order; `temperature@850` at one level."""
    levels: tuple[float, ...] | None = Field(default=None, min_length=1)
    """Levels of the variables that have levels (default: all). [hPa]"""
    time: tuple[Date, Date] | None = None
    """First and last time, both included (default: all)."""
    step: str | None = None
    """Time between two states, such as `6h` or `1 month` (default: that of the data)."""
    region: tuple[float, float, float, float] | None = None
    """South, north, west and east edge (default: all). [degrees]"""
    member: int | None = None
    """Number of the member of an ensemble that is read (default: each is a sample). [member]"""
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """Channels, latitudes and longitudes: is compared with the files, and lets a recipe be checked
    without them. [grid points]"""
    past: int = Field(default=0, ge=0)
    """Known states, one step apart; 0: none. [states]"""
    lead: PositiveInt | tuple[PositiveInt, ...] = 1
    """How far the predicted state is from the last known one. With several, one model learns all of
    them, and is told which. [steps]"""
    num_times: PositiveInt = 1
    """States, one step apart, that are one sample, along an axis of its own. [states]"""
    level_axis: bool = False
    """Levels are an axis before latitude, in place of channels."""
    target: Target = "state"
    """What is predicted: the `state`, its change since the last known one (`tendency`), or its
    difference from the background (`residual`)."""
    background: BackgroundSettings | None = None
    """Fields of another source at the predicted time, such as coarse ones or a forecast, brought to
    this grid."""
    climatology: ClimatologySettings | None = None
    """States are anomalies from it, if it is given."""
    static: tuple[str, ...] = ()
    """Names of fields without time that are known, such as orography."""
    forcings: tuple[Forcing, ...] = ()
    """What is known of the predicted time: season and time of day, place, the sun."""
    area_weights: bool = True
    """Errors weigh as the area of their grid cells."""
    variable_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Weight of the errors of a channel, or of all of a variable (default: 1 each). [-]"""
    level_weights: LevelWeights = "equal"
    """`pressure`: errors weigh as the pressure of their level, which is the mass of its layer."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.target == "tendency" and not self.past:
            raise ValueError(
                "`target: tendency` is a change since the last known state: set `past`"
            )
        if self.target == "residual" and self.background is None:
            raise ValueError("`target: residual` is a difference: set `background`")
        if not self.leads or sorted(set(self.leads)) != list(self.leads):
            raise ValueError(f"`lead: {list(self.leads)}` must be rising numbers of steps")
        if self.num_times > 1 and len(self.leads) > 1:
            raise ValueError("give several leads or `num_times`, not both: its times follow `lead`")
        if len(self.leads) > 1 and not self.past:
            raise ValueError("several leads are times since the last known state: set `past`")
        return self

    @property
    def leads(self) -> tuple[int, ...]:
        return (self.lead,) if isinstance(self.lead, int) else self.lead
