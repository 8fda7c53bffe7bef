"""Sparse points: values between the grid's points, interpolated linearly along each dim."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rawdiff.data.dataset import Array, DataInfo
from rawdiff.errors import UserError
from rawdiff.grid import PatchGrid
from rawdiff.steer.operator import Measure, Operator

ROUNDING = 1e-3  # of a grid step: 0.1 degrees in float32, as files have it, is not 0.1


class Stations(Operator):
    """Values [C, S] at S places. A .csv file of observations brings its own."""

    keeps_channels: ClassVar[bool] = True

    positions: tuple[tuple[float, ...], ...] = Field(min_length=1)
    """One number for each dim after the channels, of each place: in the coordinates of the data
    where those have some (degrees), else in grid points, counted from 0. [coordinates]"""

    def measure(self, info: DataInfo, grid: PatchGrid) -> Measure:
        index, weight = self.corners(info, grid)

        def interpolated(x: Tensor) -> Tensor:
            corners = x.flatten(2)[:, :, index.to(x.device)]  # [B, C, S, 2^dims]
            return (corners * weight.to(x)).sum(-1)

        return interpolated

    def corners(
        self,
        info: DataInfo,
        grid: PatchGrid,
        called: Callable[[int], str] = lambda number: f"Station {number}",
    ) -> tuple[Tensor, Tensor]:
        """Where in a sample [C, all values] each station's neighbours lie, and their weights.

        UserError for one outside of the grid; called(number) is its name there.
        """
        sizes, names = info.shape[1:], dim_names(info, grid)
        if wrong := [len(place) for place in self.positions if len(place) != len(sizes)]:
            raise UserError(
                f"A station's position has {wrong[0]} numbers; it must have {len(sizes)}: "
                f"{', '.join(names)}."
            )
        places = np.asarray(self.positions, dtype=np.float64)
        sides = []
        for dim, size in enumerate(sizes):
            place = _grid_points(places[:, dim], info, grid, dim, names[dim], called)
            low = np.minimum(np.floor(place), size - 1).astype(np.int64)
            share = place - low
            sides.append(((low, 1 - share), ((low + 1) % size, share)))
        index, weight = [], []
        for corner in itertools.product(*sides):
            index.append(np.ravel_multi_index([side[0] for side in corner], tuple(sizes)))
            weight.append(np.prod([side[1] for side in corner], axis=0))
        index_, weight_ = np.stack(index, -1), np.stack(weight, -1)
        best = np.take_along_axis(index_, weight_.argmax(-1)[:, None], -1)
        index_ = np.where(weight_ == 0, best, index_)  # 0 times a missing value would be missing
        return torch.from_numpy(index_), torch.from_numpy(weight_).float()


def dim_names(info: DataInfo, grid: PatchGrid) -> tuple[str, ...]:
    """Of the dims after the channels: those of the coordinates, else of the patch grid's axes."""
    num_dims = len(info.shape) - 1
    if _has_coordinates(info):
        return tuple(info.coordinates)
    names = tuple(axis.name for axis in grid.axes)
    return names if len(names) == num_dims else tuple(f"axis{i}" for i in range(num_dims))


def _has_coordinates(info: DataInfo) -> bool:
    return tuple(len(values) for values in info.coordinates.values()) == tuple(info.shape[1:])


def _grid_points(
    place: Array,
    info: DataInfo,
    grid: PatchGrid,
    dim: int,
    name: str,
    called: Callable[[int], str],
) -> Array:
    """Positions along one dim, in grid points from 0 on."""
    size = info.shape[1 + dim]
    points: Sequence[float] = range(size)
    turn = None
    if _has_coordinates(info):
        points, turn = tuple(info.coordinates.values())[dim], info.periods.get(name)
    values = np.asarray(points, dtype=np.float64)
    first, last = values[0], values[-1]
    numbers = np.arange(size, dtype=np.float64)
    step = (last - first) / max(size - 1, 1)
    if len(grid.axes) == len(info.shape) - 1 and grid.axes[dim].period is not None:
        turn = step * size
        values, numbers = np.append(values, first + turn), np.append(numbers, size)
    slack = ROUNDING * abs(step)
    low, high = values.min() - slack, values.max() + slack
    around = place if turn is None else low + np.mod(place - low, abs(turn))
    outside = ~((around >= low) & (around <= high))  # NaN is
    if outside.any():
        number = int(outside.argmax())
        raise UserError(
            f"{called(number)} lies at {name} {place[number]:g}, outside the grid, which goes from "
            f"{first:g} to {last:g}. Leave it out, or mend its position."
        )
    order = np.argsort(values)
    return np.interp(around, values[order], numbers[order])
