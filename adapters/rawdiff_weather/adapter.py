"""Fields on the patch grid: latitude and longitude, after levels where they are an axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor

from rawdiff import grid
from rawdiff.adapter import Adapter, PatchLength
from rawdiff.errors import UserError
from rawdiff.grid import Axis

FULL_CIRCLE = 360.0  # degrees


class WeatherAdapter(Adapter):
    """Fields [C, …, latitude, longitude] in patches of grid points.

    Patches lie where the coordinates of the data say, levels by the logarithm of their pressure. A
    longitude that goes all around closes on itself.
    """

    patch_size: Annotated[tuple[PatchLength, ...], Field(min_length=2)]
    """Length of a patch along each dim after the channels; latitude and longitude are the last.
    [grid points]"""
    pad: bool = False
    """Fills the last rows of patches with missing values where the number of latitudes (121, 181,
    721) is not a multiple."""

    def axes(
        self, shape: Sequence[int], coordinates: Mapping[str, Sequence[float]]
    ) -> tuple[Axis, ...]:
        names = tuple(coordinates)
        if tuple(len(values) for values in coordinates.values()) != tuple(shape[1:]):
            sizes = {name: len(values) for name, values in coordinates.items()}
            raise UserError(
                f"Fields of shape {tuple(shape[1:])} do not lie on coordinates of sizes {sizes}; "
                "`adapter: weather` needs those of every dim. Use `data: weather`, or "
                "`adapter: grid` for arrays without coordinates."
            )
        periodic = [name for name in names if name == "longitude" and _closes(coordinates[name])]
        axes = grid.regular_axes(names, shape[1:], self.patch_size, periodic=periodic, pad=self.pad)
        return tuple(
            _placed(axis, coordinates[axis.name], size)
            for axis, size in zip(axes, self.patch_size, strict=True)
        )

    def patchify(self, x: Tensor) -> Tensor:
        return grid.patchify(x, self.patch_size)

    def unpatchify(self, patches: Tensor, shape: Sequence[int]) -> Tensor:
        return grid.unpatchify(patches, shape[1:], self.patch_size)


def _closes(longitude: Sequence[float]) -> bool:
    """Whether the step from the last to the first is the same as the others."""
    step = (longitude[-1] - longitude[0]) / max(len(longitude) - 1, 1)
    return len(longitude) > 1 and math.isclose(step * len(longitude), FULL_CIRCLE, rel_tol=1e-3)


def _placed(axis: Axis, values: Sequence[float], size: int) -> Axis:
    """The axis with the middle of each patch, in patches: as even as the coordinates are."""
    if axis.period is not None or len(axis.positions) < 2:
        return axis
    if axis.name == "level":
        values = [math.log(value) for value in values]
    whole = [values[i : i + size] for i in range(0, len(values), size)]
    middles = [sum(part) / len(part) for part in whole]
    if len(whole[-1]) < size:  # a padded patch lies as far on as the others
        middles[-1] = whole[-1][0] + (middles[0] - whole[0][0])
    step = (middles[-1] - middles[0]) / (len(middles) - 1)
    return Axis(axis.name, tuple((middle - middles[0]) / step for middle in middles))
