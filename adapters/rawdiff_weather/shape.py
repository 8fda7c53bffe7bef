"""Which dims a sample has: levels and times are channels and samples, or axes of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rawdiff.errors import UserError
from rawdiff_weather.axes import Fields
from rawdiff_weather.selection import Channel


@dataclass(frozen=True)
class SampleShape:
    """Of fields [T, C, H, W]: [V, H, W] with an axis of times or levels, or both, before H.

    Each of V variables has the same `levels` where they are an axis (empty: they are channels).
    Times are an axis if there is more than one.
    """

    channels: tuple[Channel, ...]
    num_times: int = 1
    levels: tuple[float, ...] = ()

    @staticmethod
    def of(channels: tuple[Channel, ...], num_times: int, level_axis: bool) -> SampleShape:
        """UserError if levels cannot be an axis."""
        if not level_axis:
            return SampleShape(channels, num_times)
        levels: dict[str, list[float]] = {}
        for channel in channels:
            if channel.level is None:
                raise UserError(
                    f"`level_axis`: `{channel.name}` has no levels. Predict only variables that "
                    "have, or let levels be channels."
                )
            levels.setdefault(channel.variable, []).append(channel.level)
        first, *others = levels.values()
        if any(other != first for other in others):
            raise UserError(
                f"`level_axis`: variables must have the same levels; there are {levels}. Choose "
                "some that all have by `levels`."
            )
        return SampleShape(channels, num_times, tuple(first))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the channels of a sample: variables, where levels are an axis."""
        return tuple(c.variable if self.levels else c.name for c in self._firsts)

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(channel.units for channel in self._firsts)

    @property
    def _firsts(self) -> tuple[Channel, ...]:
        return self.channels[:: len(self.levels) or 1]

    @property
    def axes(self) -> dict[str, tuple[float, ...]]:
        """Coordinates of those before latitude: steps after the first time, levels in hPa."""
        times = {"time": tuple(map(float, range(self.num_times)))} if self.num_times > 1 else {}
        return times | ({"level": self.levels} if self.levels else {})

    def sample(self, fields: Fields) -> Fields:
        """Fields [B, T or 1, C, H, W] to samples [B, V, …, H, W]; a single time goes for all."""
        B, T, _, H, W = fields.shape
        by_level = fields.reshape(B, T, -1, len(self.levels) or 1, H, W)
        return self._with_axes(by_level)

    def spread(self, fields: Fields) -> Fields:
        """Fields [B, T or 1, F, H, W] to [B, F, …, H, W], the same at all levels."""
        return self._with_axes(fields[:, :, :, None])

    def _with_axes(self, fields: Fields) -> Fields:
        """[B, T or 1, V, L or 1, H, W] to [B, V, (T), (L), H, W]."""
        B, _, V, _, H, W = fields.shape
        full = (B, V, self.num_times, len(self.levels) or 1, H, W)
        whole = np.swapaxes(fields, 1, 2)
        if whole.shape != full:
            whole = np.broadcast_to(whole, full)
        return whole.reshape(B, V, *map(len, self.axes.values()), H, W)

    def fields(self, samples: Fields) -> Fields:
        """Inverse of `sample`: [B, T, C, H, W]."""
        B, V, *_, H, W = samples.shape
        by_time = samples.reshape(B, V, self.num_times, -1, H, W)
        return np.swapaxes(by_time, 1, 2).reshape(B, self.num_times, -1, H, W)
