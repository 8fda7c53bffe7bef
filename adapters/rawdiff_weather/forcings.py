"""What is known of any moment without a file: season, time of day, position of the sun.

Moments come as `year` and `day` [T]: the fraction of the year and of the day in UTC that has
passed, from 0 to below 1. Positions come as latitude [H] and longitude [W] in degrees.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

SOLAR_CONSTANT = 1361.0  # W m-2, at the mean distance of the sun (Kopp and Lean 2011)


def season(year: Array) -> Array:
    """Sine and cosine of the time of the year [T, 2]."""
    angle = 2 * np.pi * year
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def time_of_day(day: Array, latitude: Array, longitude: Array) -> Array:
    """Sine and cosine of the local mean time [T, 2, H, W]; 0 and -1 at noon."""
    angle = 2 * np.pi * day[:, None] + np.deg2rad(longitude)  # [T, W]
    both = np.stack([np.sin(angle), np.cos(angle)], axis=1)[:, :, None]
    return np.broadcast_to(both, (len(day), 2, len(latitude), len(longitude)))


def position(latitude: Array, longitude: Array) -> Array:
    """A point's place on the unit sphere [3, H, W]: x, y and z, without a seam or poles."""
    north, east = np.deg2rad(latitude)[:, None], np.deg2rad(longitude)[None]
    x, y = np.cos(north) * np.cos(east), np.cos(north) * np.sin(east)
    return np.stack([x, y, np.broadcast_to(np.sin(north), x.shape)])


def _sun(year: Array) -> tuple[Array, Array, Array]:
    """Declination (rad), equation of time (rad) and (mean distance / distance)² [T].

    Fourier series of the angle of the day. (Spencer 1971)
    """
    a = 2 * np.pi * year
    declination = (
        0.006918
        - 0.399912 * np.cos(a) + 0.070257 * np.sin(a)
        - 0.006758 * np.cos(2 * a) + 0.000907 * np.sin(2 * a)
        - 0.002697 * np.cos(3 * a) + 0.00148 * np.sin(3 * a)
    )  # fmt: skip
    equation_of_time = (
        0.000075
        + 0.001868 * np.cos(a) - 0.032077 * np.sin(a)
        - 0.014615 * np.cos(2 * a) - 0.040849 * np.sin(2 * a)
    )  # fmt: skip
    distance = (
        1.00011
        + 0.034221 * np.cos(a) + 0.00128 * np.sin(a)
        + 0.000719 * np.cos(2 * a) + 0.000077 * np.sin(2 * a)
    )  # fmt: skip
    return declination, equation_of_time, distance


def insolation(year: Array, day: Array, latitude: Array, longitude: Array) -> Array:
    """Solar radiation at the top of the atmosphere at each moment, W m-2 [T, H, W]."""
    declination, equation_of_time, distance = (part[:, None, None] for part in _sun(year))
    north, east = np.deg2rad(latitude)[None, :, None], np.deg2rad(longitude)[None, None]
    hour_angle = 2 * np.pi * (day[:, None, None] - 0.5) + east + equation_of_time
    height = np.sin(north) * np.sin(declination)
    height = height + np.cos(north) * np.cos(declination) * np.cos(hour_angle)
    return SOLAR_CONSTANT * distance * np.clip(height, 0, None)


def daily_insolation(year: Array, latitude: Array) -> Array:
    """As `insolation`, the mean of the day [T, H]. (Milankovitch 1941)"""
    declination, _, distance = (part[:, None] for part in _sun(year))
    north = np.deg2rad(latitude)[None]
    # The pole sees the sun all day or not at all.
    sunset = np.arccos(np.clip(-np.tan(north) * np.tan(declination), -1, 1))
    height = sunset * np.sin(north) * np.sin(declination)
    height = height + np.cos(north) * np.cos(declination) * np.sin(sunset)
    return SOLAR_CONSTANT / np.pi * distance * np.clip(height, 0, None)
