"""Patches lie where the coordinates say, and the Earth is round."""

import math

import numpy as np
import pytest
import torch
from rawdiff_weather.adapter import WeatherAdapter

from rawdiff.errors import UserError
from rawdiff.testing import check_adapter


def coordinates(rows: int, columns: int, **more: list[float]) -> dict[str, list[float]]:
    latitude = np.linspace(90, -90, rows).tolist()
    return more | {"latitude": latitude, "longitude": (np.arange(columns) * 360 / columns).tolist()}


@pytest.mark.parametrize(
    ("shape", "adapter", "more"),
    [
        ((3, 32, 64), WeatherAdapter(patch_size=(2, 2)), {}),
        ((2, 121, 240), WeatherAdapter(patch_size=(4, 4), pad=True), {}),
        ((2, 4, 6, 8), WeatherAdapter(patch_size=(2, 2, 4)), {"level": [50, 200, 500, 1000]}),
    ],
)
def test_the_adapter_keeps_its_promises(shape, adapter, more) -> None:
    check_adapter(adapter, shape, coordinates(*shape[-2:], **more))


def test_a_global_longitude_closes_and_a_region_does_not() -> None:
    adapter = WeatherAdapter(patch_size=(1, 2))
    everywhere = adapter.axes((1, 3, 8), coordinates(3, 8))
    assert [axis.period for axis in everywhere] == [None, 4]
    region = {"latitude": [3.0, 2.0, 1.0], "longitude": [-15 + 2.5 * i for i in range(8)]}
    assert [axis.period for axis in adapter.axes((1, 3, 8), region)] == [None, None]


def test_levels_lie_by_the_logarithm_of_their_pressure_and_rows_evenly() -> None:
    levels = [100.0, 200.0, 400.0, 1600.0]
    adapter = WeatherAdapter(patch_size=(1, 4, 4), pad=True)
    level, latitude, _ = adapter.axes((1, 4, 9, 16), coordinates(9, 16, level=levels))
    assert np.allclose(level.positions, [0, 0.75, 1.5, 3])
    assert np.allclose(latitude.positions, [0, 1, 2])


def test_values_of_a_padded_row_are_missing_and_nothing_else() -> None:
    x = torch.arange(5 * 8.0).view(1, 1, 5, 8)
    patches = WeatherAdapter(patch_size=(2, 2), pad=True).patchify(x)
    assert int(patches.isnan().sum()) == 8
    assert math.isclose(float(patches.nansum()), float(x.sum()))


def test_fields_without_coordinates_are_refused_with_the_cure() -> None:
    with pytest.raises(UserError, match="Use `data: weather`, or `adapter: grid`"):
        WeatherAdapter(patch_size=(2, 2)).axes((1, 4, 8), {})
    with pytest.raises(UserError, match="or `pad: true` under"):
        WeatherAdapter(patch_size=(4, 4)).axes((1, 121, 240), coordinates(121, 240))
