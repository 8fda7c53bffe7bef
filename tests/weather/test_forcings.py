"""The sun stands where it should, and no longitude is a seam."""

import numpy as np
import pytest
from rawdiff_weather.forcings import (
    SOLAR_CONSTANT,
    daily_insolation,
    insolation,
    position,
    season,
    time_of_day,
)

LATITUDE = np.linspace(89.5, -89.5, 180)
LONGITUDE = np.arange(0, 360, 2.0)
AREA = np.cos(np.deg2rad(LATITUDE)) / np.cos(np.deg2rad(LATITUDE)).sum()
JUNE = np.array([171 / 365])


def test_a_year_brings_a_quarter_of_the_solar_constant() -> None:
    year = np.arange(365) / 365
    mean = (daily_insolation(year, LATITUDE) * AREA).sum(1).mean()
    assert mean == pytest.approx(SOLAR_CONSTANT / 4, rel=1e-3)


def test_the_mean_of_a_day_is_the_mean_over_its_hours() -> None:
    hours = np.arange(0, 1, 1 / 288)
    year = np.full_like(hours, 0.3)
    mean = insolation(year, hours, LATITUDE, np.array([40.0])).mean(0)[:, 0]
    assert np.allclose(mean, daily_insolation(year[:1], LATITUDE)[0], atol=0.2)


def test_at_midsummer_the_pole_has_more_light_than_the_equator_and_the_other_has_none() -> None:
    north, equator, south = daily_insolation(JUNE, np.array([90.0, 0.0, -90.0]))[0]
    assert north > equator > 350
    assert south == 0


def test_noon_comes_from_east_to_west() -> None:
    for day, noon in ((0.5, 0.0), (0.25, 90.0), (0.75, 270.0)):
        field = insolation(np.array([0.28]), np.array([day]), np.array([0.0]), LONGITUDE)
        highest = LONGITUDE[field[0, 0].argmax()]
        assert abs((highest - noon + 180) % 360 - 180) <= 5  # the equation of time
        local = time_of_day(np.array([day]), np.array([0.0]), np.array([noon]))
        assert np.allclose(local[0, :, 0, 0], [0, -1], atol=1e-12)


def test_neither_longitude_zero_nor_new_year_is_a_seam() -> None:
    place = position(LATITUDE, LONGITUDE)
    steps = np.linalg.norm(np.diff(place, axis=2, append=place[:, :, :1]), axis=0)
    assert np.allclose(steps, steps[:, :1])
    assert np.allclose(np.linalg.norm(place, axis=0), 1)
    last, first = season(np.array([364 / 365, 0.0]))
    assert np.linalg.norm(last - first) < 0.02
