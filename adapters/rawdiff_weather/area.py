"""How much of the Earth each grid point stands for, and the regions that scores are taken over."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rawdiff.errors import UserError

TROPICS = 20.0  # degrees; the rows on it belong to both sides, as in WeatherBench 2
TOLERANCE = 1e-3  # degrees; coordinates are often float32


def latitude_bounds(latitudes: Sequence[float]) -> Tensor:
    """Edges of the cells around latitudes [H], in degrees and in the same order: [H + 1] float64.

    Cells meet half-way. The outer ones end at the pole if it is less than one row away, otherwise
    (a region) half a row beyond. A single row reaches nowhere: its edges are itself.
    UserError if the latitudes do not go strictly up or down within [-90, 90].
    """
    phi = torch.tensor(list(latitudes), dtype=torch.float64)
    steps = phi.diff()
    inside = bool((phi.abs() <= 90 + TOLERANCE).all())  # False for NaN
    if not len(phi) or not inside or not (bool((steps > 0).all()) or bool((steps < 0).all())):
        raise UserError(
            f"Latitudes must go up or down without repetition, from -90 to 90 degrees; found "
            f"{_shown(latitudes)}. Sort the store by latitude."
        )
    if len(phi) == 1:
        return phi.repeat(2)
    middle = (phi[:-1] + phi[1:]) / 2
    first, last = _outer_edge(phi[0], -steps[0]), _outer_edge(phi[-1], steps[-1])
    return torch.cat([first[None], middle, last[None]])


def _outer_edge(phi: Tensor, outward: Tensor) -> Tensor:
    """The edge beyond the last row; `outward` is the signed step to it from its neighbour."""
    pole = outward.sign() * 90
    reaches = (pole - phi).abs() < outward.abs() - TOLERANCE
    return pole if reaches else phi + outward / 2


def area_weights(latitudes: Sequence[float], num_longitudes: int) -> Tensor:
    """Areas of the cells of a regular grid, of mean 1: [H, W] float64.

        w_i ∝ |sin(upper edge) - sin(lower edge)|

    exact to the poles, where cos(latitude) would be 0. A single row weighs 1.
    """
    edges = latitude_bounds(latitudes).deg2rad().sin()
    w = edges.diff().abs() if len(edges) > 2 else torch.ones(1, dtype=torch.float64)
    return (w / w.mean())[:, None].repeat(1, num_longitudes)


def is_full_circle(longitudes: Sequence[float]) -> bool:
    """True if evenly spaced longitudes go once around the Earth; False for a region of it."""
    steps = torch.tensor(list(longitudes), dtype=torch.float64).diff() % 360
    if not len(steps) or float(steps.max() - steps.min()) > TOLERANCE:
        return False
    return math.isclose(float(steps.mean()) * len(longitudes), 360, abs_tol=len(longitudes) * 1e-4)


def latitude_regions(latitudes: Sequence[float], num_longitudes: int) -> dict[str, Tensor]:
    """Masks [H, W] bool of the globe (or all there is of it), the tropics and beyond them.

    Only those with a row in them. The tropics end at 20°, as in WeatherBench 2 (Rasp et al. 2024).
    """
    phi = torch.tensor(list(latitudes), dtype=torch.float64)
    rows = {
        "global": torch.ones_like(phi, dtype=torch.bool),
        "tropics": phi.abs() <= TROPICS + TOLERANCE,
        "northern extratropics": phi >= TROPICS - TOLERANCE,
        "southern extratropics": phi <= -TROPICS + TOLERANCE,
    }
    return {name: row[:, None].repeat(1, num_longitudes) for name, row in rows.items() if row.any()}


def land_and_sea(sea_field: Tensor) -> dict[str, Tensor]:
    """Masks `land` and `sea` [H, W] bool from a field, such as SST, that is NaN on land."""
    land = sea_field.isnan()
    return {"land": land, "sea": ~land}


def _shown(values: Sequence[float]) -> str:
    shown = [f"{float(value):g}" for value in values]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "…", *shown[-2:]]) or "none"
