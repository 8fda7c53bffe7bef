"""A fragment stays while the rest of a molecule is drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rawdiff_molecules.decode import decode
from rawdiff_molecules.fragment_template import FragmentTemplate
from rawdiff_molecules.lattice import Lattice

from rawdiff.conditions import draw_conditions
from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError

LATTICE = Lattice((24, 24, 24), 0.4, 0.5, ("C", "H", "O"))
INFO = DataInfo(
    shape=LATTICE.shape,
    channels=LATTICE.elements,
    coordinates=LATTICE.coordinates,
    meaning=LATTICE.meaning,
)
METHANOL = """6
methanol
C  -0.046  0.664  0.000
O  -0.046 -0.756  0.000
H  -1.086  0.976  0.000
H   0.437  1.070  0.890
H   0.437  1.070 -0.890
H   0.861 -1.056  0.000
"""


def never():
    raise AssertionError("no real data are needed")


@pytest.fixture
def methanol(tmp_path) -> Path:
    path = tmp_path / "methanol.xyz"
    path.write_text(METHANOL)
    return path


def test_what_is_kept_is_the_density_near_the_fragment_s_atoms(methanol) -> None:
    wanted = FragmentTemplate(path=methanol, offset=(1, 0, 0)).wanted(0, INFO, never)
    assert not np.isnan(wanted.x).any()
    found = decode(torch.from_numpy(wanted.x)[None], INFO)[0]
    assert sorted(found.elements.tolist()) == [1, 1, 1, 1, 6, 8]
    oxygen = found.positions[found.elements == 8][0]
    middle = np.array([(0.861 - 1.086) / 2, (1.070 - 1.056) / 2, 0])
    assert np.allclose(oxygen, np.array([-0.046, -0.756, 0]) - middle + [1, 0, 0], atol=0.01)
    at_the_peak = wanted.x > 0.5
    assert wanted.keep[at_the_peak].all()
    assert 0.01 < wanted.keep.mean() < 0.2
    assert (wanted.keep == wanted.keep[:1]).all()  # no other element there, either


def test_some_atoms_alone_can_be_kept_or_none(methanol) -> None:
    wanted = FragmentTemplate(path=methanol, atoms=(0, 1)).wanted(0, INFO, never)
    assert sorted(decode(torch.from_numpy(wanted.x)[None], INFO)[0].elements) == [6, 8]
    assert not FragmentTemplate(path=methanol, reach=0).wanted(0, INFO, never).keep.any()
    conditions = draw_conditions(INFO, 2, None, never, template=FragmentTemplate(path=methanol))
    assert conditions.x.shape == (2, *INFO.shape)


def test_a_fragment_that_does_not_fit_is_an_error(methanol, tmp_path) -> None:
    def wanted(**changes):
        return FragmentTemplate(**({"path": methanol} | changes)).wanted(0, INFO, never)

    with pytest.raises(UserError, match=r"outside the box of 9\.6 x 9\.6 x 9\.6 Angstrom"):
        wanted(offset=(4.5, 0, 0))
    with pytest.raises(UserError, match=r"\[6\] are not among the 6"):
        wanted(atoms=(6,))
    other = tmp_path / "other.xyz"
    other.write_text("1\nneon\nNe 0 0 0\n")
    with pytest.raises(UserError, match="has Ne, but the model was trained on C, H, O alone"):
        wanted(path=other)
    other.write_text("1\nnothing\n")
    with pytest.raises(UserError, match="holds no molecule"):
        wanted(path=other)
    plain = DataInfo(shape=(1, 4), channels=("c",))
    with pytest.raises(UserError, match="densities"):
        FragmentTemplate(path=methanol).wanted(0, plain, never)
