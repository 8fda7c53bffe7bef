import pytest
import torch
from lattice_cases import ETHYNE, METHANE, WATER, qm9_lattice, stored
from rawdiff_molecules.lattice import Lattice, voxelize
from rawdiff_molecules.mol3d import Mol3dAdapter

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError
from rawdiff.testing import check_adapter

LATTICE = Lattice((10, 8, 6), 0.5, 0.6, ("C", "H", "N", "O"))


def test_a_density_is_the_sum_of_the_gaussians_of_its_atoms():
    x = stored([ETHYNE, WATER, METHANE], LATTICE)
    centres = torch.stack(
        torch.meshgrid(*(torch.tensor(c) for c in LATTICE.coordinates.values()), indexing="ij"), -1
    )
    expected = torch.zeros(3, *LATTICE.shape)
    for b, sample in enumerate(x):
        for *place, channel in sample[~sample[:, 3].isnan()].tolist():
            d2 = (centres - torch.tensor(place)).square().sum(-1)
            expected[b, int(channel)] += torch.exp(-d2 / (0.93 * 0.6) ** 2)
    torch.testing.assert_close(voxelize(x, LATTICE), expected, atol=1e-6, rtol=1e-5)


def test_an_atom_at_the_origin_lies_in_the_middle_of_the_lattice():
    density = voxelize(stored([[("C", 0, 0, 0)]], LATTICE), LATTICE)
    torch.testing.assert_close(density, density.flip(2, 3, 4))


def test_a_density_does_not_depend_on_the_other_molecules_of_its_batch():
    both = voxelize(stored([WATER, METHANE], LATTICE), LATTICE)
    torch.testing.assert_close(both[:1], voxelize(stored([WATER], LATTICE), LATTICE))


def test_the_lattice_is_read_back_from_what_a_run_knows_of_its_data():
    info = DataInfo(
        shape=LATTICE.shape,
        channels=LATTICE.elements,
        coordinates=LATTICE.coordinates,
        meaning=LATTICE.meaning,
    )
    again = Lattice.of(info)
    assert again.spacing == pytest.approx(LATTICE.spacing)
    assert (again.num_voxels, again.radius, again.elements) == (
        LATTICE.num_voxels,
        LATTICE.radius,
        LATTICE.elements,
    )


def test_data_without_a_lattice_are_no_densities_of_atoms():
    with pytest.raises(UserError, match="name: molecules"):
        Lattice.of(DataInfo(shape=(3, 8, 8), channels=("red", "green", "blue")))


@pytest.mark.parametrize("patch_size", [4, (8, 4, 2)])
def test_mol3d_keeps_the_promises_of_an_adapter(patch_size):
    lattice = qm9_lattice(8)
    check_adapter(Mol3dAdapter(patch_size=patch_size), lattice.shape, lattice.coordinates)
