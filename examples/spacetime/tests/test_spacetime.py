"""The package keeps its promises."""

import numpy as np
import pytest
from rawdiff_spacetime.adapter import SpaceTimeAdapter
from rawdiff_spacetime.generate import heat

from rawdiff import UserError
from rawdiff.testing import check_adapter


def test_the_adapter_keeps_its_promises():
    check_adapter(SpaceTimeAdapter(), (2, 4, 8, 8, 12))


def test_space_closes_on_itself_and_is_never_padded():
    axes = SpaceTimeAdapter().axes((1, 4, 8, 8, 8), {})
    assert [axis.period for axis in axes] == [None, 2, 2, 2]
    with pytest.raises(UserError, match="cannot be cut"):
        SpaceTimeAdapter().axes((1, 4, 8, 8, 9), {})


def test_heat_spreads_and_none_is_lost():
    means, spreads = heat(0).mean((1, 2, 3)), heat(0).std((1, 2, 3))
    assert np.allclose(means, means[0])
    assert (np.diff(spreads) < 0).all()
