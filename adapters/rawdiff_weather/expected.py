"""What fields will look like that are not here, so that a recipe can be checked without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import WrongDataError
from rawdiff_weather.axes import Floats
from rawdiff_weather.framing import Forcing, Framing
from rawdiff_weather.selection import Channel, Region
from rawdiff_weather.shape import SampleShape

Shape = tuple[int, int, int]


def require_shape(expected: Shape | None, found: Shape) -> None:
    """WrongDataError unless the files hold the (C, latitude, longitude) that a recipe says."""
    if expected is not None and expected != found:
        wanted, there = (
            f"{c} channels on {h} latitudes x {w} longitudes" for c, h, w in (expected, found)
        )
        raise WrongDataError(
            f"`data.shape` says {wanted}, but the files hold {there}. Give the files that this "
            "recipe was made for, or correct `shape`."
        )


def expected_grid(shape: Shape, region: Region | None) -> tuple[Floats, Floats]:
    """Latitudes and longitudes of that shape.

    Rows lie evenly from pole to pole, odd numbers of them on both; columns go around, or lie in
    the `region`.
    """
    _, H, W = shape
    rows = (np.arange(H) + (0.0 if H % 2 else 0.5)) / (max(H - 1, 1) if H % 2 else H)
    box = region or Region()
    width = (box.east - box.west) % 360 or 360.0
    return box.north - rows * (box.north - box.south), box.west + np.arange(W) * width / W


def expected_channels(shape: Shape, levels: Sequence[float] | None) -> tuple[Channel, ...]:
    """Without their names and units: so many, or each of some variables at all levels."""
    if levels is None:
        return tuple(Channel(f"channel {i}", None, "") for i in range(shape[0]))
    places = (divmod(i, len(levels)) for i in range(shape[0]))
    return tuple(Channel(f"variable {v}", levels[level], "") for v, level in places)


def expected_info(
    shape: Shape,
    *,
    num_past: int,
    leads: tuple[int, ...],
    forcings: tuple[Forcing, ...],
    num_static: int,
    levels: Sequence[float] | None,
    level_axis: bool,
    num_times: int,
    region: Region | None,
) -> DataInfo:
    """Of samples without a background."""
    latitude, longitude = expected_grid(shape, region)
    channels = expected_channels(shape, levels if level_axis else None)
    framing = Framing(
        latitude=latitude,
        longitude=longitude,
        num_past=num_past,
        leads=leads,
        target="state",
        forcings=forcings,
        static=np.empty((num_static, 0, 0), np.float32),
        climatology=None,
        background=None,
        shape=SampleShape.of(channels, num_times, level_axis),
    )
    return framing.info({}, {})
