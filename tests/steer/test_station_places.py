"""Where stations may lie: on any turn of the globe, and on the very edge of a grid."""

import numpy as np
import pytest
import torch

from rawdiff import UserError
from rawdiff.adapter import GridAdapter
from rawdiff.data.dataset import DataInfo
from rawdiff.grid import PatchGrid
from rawdiff.steer.stations import Stations


def test_stations_of_a_region_may_be_given_on_any_turn_of_the_globe() -> None:
    longitude = (350.0, 355.0, 360.0, 365.0)
    lat = (60.0, 40.0, 20.0, 0.0)
    info = DataInfo(
        shape=(1, 4, 4),
        channels=("t",),
        coordinates={"lat": lat, "lon": longitude},
        periods={"lon": 360.0},
    )
    grid = PatchGrid(GridAdapter(patch_size=(2, 2), axis_names=("lat", "lon")).axes((1, 4, 4), {}))
    x = torch.arange(4.0).expand(1, 1, 4, 4)  # 0 to 3 from west to east
    places = ((60, 350), (60, -10), (60, -2.5), (60, 0), (60, 2.5), (60, 5), (60, 365), (60, 725))
    found = Stations(positions=places).measure(info, grid)(x)[0, 0]
    assert found.tolist() == [0, 0, 1.5, 2, 2.5, 3, 3, 3]
    for place in (-11, 6, 180, 349):
        with pytest.raises(UserError, match=f"lies at lon {place}, outside .* from 350 to 365"):
            Stations(positions=((60, place),)).measure(info, grid)


def test_a_station_on_the_edge_is_inside_whatever_float32_made_of_the_edge() -> None:
    edge = tuple(np.float32([50.3, 50.2, 50.1]).astype(float))
    info = DataInfo(shape=(1, 3), channels=("t",), coordinates={"lat": edge})
    grid = PatchGrid(GridAdapter(patch_size=(1,), axis_names=("lat",)).axes((1, 3), {}))
    places = ((50.3,), (50.1,))
    found = Stations(positions=places).measure(info, grid)(torch.arange(3.0).view(1, 1, 3))
    assert found.flatten().tolist() == pytest.approx([0, 2], abs=1e-3)
    with pytest.raises(UserError, match=r"lies at lat 50\.09"):
        Stations(positions=((50.09,),)).measure(info, grid)
