"""What fields will look like that are not here, so that a recipe can be checked without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff_weather.framing import Forcing, Framing
from rawdiff_weather.selection import Region

Shape = tuple[int, int, int]


def require_shape(expected: Shape | None, found: Shape) -> None:
    """UserError unless the files hold the (C, latitude, longitude) that a recipe says."""
    if expected is not None and expected != found:
        wanted, there = (
            f"{c} channels on {h} latitudes x {w} longitudes" for c, h, w in (expected, found)
        )
        raise UserError(
            f"`data.shape` says {wanted}, but the files hold {there}. Give the files that this "
            "recipe was made for, or correct `shape`."
        )


def expected_info(
    shape: Shape,
    *,
    num_past: int,
    leads: tuple[int, ...],
    forcings: tuple[Forcing, ...],
    static: Sequence[str],
    num_background: int,
    region: Region | None,
) -> DataInfo:
    """Of samples of `shape` (C, latitude, longitude), without names and units of the channels.

    Rows lie evenly from pole to pole, odd numbers of them on both; columns go around, or lie in
    the `region`. Each static variable counts once.
    """
    C, H, W = shape
    rows = (np.arange(H) + (0.0 if H % 2 else 0.5)) / (max(H - 1, 1) if H % 2 else H)
    box = region or Region()
    width = (box.east - box.west) % 360 or 360.0
    framing = Framing(
        latitude=box.north - rows * (box.north - box.south),
        longitude=box.west + np.arange(W) * width / W,
        num_past=num_past,
        leads=leads,
        target="state",
        forcings=forcings,
        static=np.empty((len(static), 0, 0), np.float32),
        climatology=None,
    )
    return DataInfo(
        shape=shape,
        channels=tuple(f"channel {i}" for i in range(C)),
        coordinates={
            "latitude": tuple(framing.latitude.tolist()),
            "longitude": tuple(framing.longitude.tolist()),
        },
        scalar_names=framing.scalar_names,
        num_context_channels=framing.num_context_channels(C) + num_background,
        writer="fields",
        evaluators=("forecast",) if num_past or num_background else (),
    )
