from itertools import islice

import numpy as np
import pytest
import torch
from lattice_cases import ETHYNE, METHANE, WATER, qm9_lattice, stored
from rawdiff_molecules.decode import decode, expected_counts
from rawdiff_molecules.elements import SYMBOLS
from rawdiff_molecules.files import File, read_file
from rawdiff_molecules.lattice import Lattice, voxelize
from rawdiff_molecules.motion import uniform_rotations

from rawdiff.data.dataset import DataInfo


def info_of(lattice: Lattice) -> DataInfo:
    return DataInfo(
        shape=lattice.shape,
        channels=lattice.elements,
        coordinates=lattice.coordinates,
        meaning=lattice.meaning,
    )


def found_in(x, lattice, noise=0.0):
    densities = voxelize(x, lattice)
    densities += noise * torch.randn(densities.shape, generator=torch.Generator().manual_seed(0))
    return decode(densities, info_of(lattice))


def rmsd(decoded, sample, lattice):
    """In Angstrom; infinite unless the elements and their numbers are the same."""
    sample = sample[~sample[:, 3].isnan()].numpy()
    symbols = np.array([lattice.elements[int(channel)] for channel in sample[:, 3]])
    elements = np.array([SYMBOLS[number] for number in decoded.elements])
    if sorted(elements) != sorted(symbols):
        return np.inf
    d2 = np.square(decoded.positions[:, None] - sample[None, :, :3]).sum(-1)
    d2[elements[:, None] != symbols] = np.inf
    return np.inf if len(set(d2.argmin(1))) < len(d2) else np.sqrt(d2.min(1).mean())


@pytest.mark.parametrize("atoms", [METHANE, ETHYNE, WATER])
def test_atoms_come_back_from_their_density(atoms):
    lattice = qm9_lattice()
    x = stored([atoms], lattice) + torch.tensor([0.13, -0.08, 0.19, 0])
    (decoded,) = found_in(x, lattice)
    assert rmsd(decoded, x[0], lattice) < 1e-3
    np.testing.assert_allclose(decoded.peaks, 1, atol=1e-3)


def test_atoms_whose_densities_make_one_peak_are_told_apart():
    lattice = qm9_lattice(num_voxels=16, spacing=0.6, radius=0.75)
    x = stored([ETHYNE], lattice)  # its carbons are two voxels apart
    (decoded,) = found_in(x, lattice)
    assert rmsd(decoded, x[0], lattice) < 0.01


def test_atoms_are_found_in_noise():
    lattice = qm9_lattice()
    x = stored([METHANE, WATER], lattice)
    for decoded, sample in zip(found_in(x, lattice, noise=0.05), x, strict=True):
        assert rmsd(decoded, sample, lattice) < 0.05


def test_of_two_elements_in_one_place_the_higher_is_there():
    lattice = qm9_lattice(num_voxels=8)
    x = stored([[("C", 0, 0, 0), ("N", 0.1, 0, 0)]], lattice)
    densities = voxelize(x, lattice)
    densities[:, lattice.elements.index("N")] *= 0.8
    (decoded,) = decode(densities, info_of(lattice))
    assert decoded.elements.tolist() == [6]


def test_an_empty_density_has_no_atoms():
    (decoded,) = decode(np.zeros((1, 4, 8, 8, 8), np.float32), info_of(qm9_lattice(8)))
    assert decoded.positions.shape == (0, 3)


def test_the_integral_of_a_channel_counts_its_atoms():
    lattice = qm9_lattice()
    densities = voxelize(stored([METHANE, WATER], lattice), lattice)
    torch.testing.assert_close(
        expected_counts(densities, lattice),
        torch.tensor([[1.0, 4, 0, 0], [0, 2, 0, 1]]),
        atol=1e-3,
        rtol=1e-3,
    )


def test_molecules_of_qm9_come_back_exactly(shared):
    """100 of them, turned and moved; `benchmarks/voxels.py` does it with all."""
    lattice = qm9_lattice()
    path = shared / "data" / "molecules" / "qm9_sample_2000.sdf.gz"
    x = stored(list(islice(_centred_molecules(path), 100)), lattice)
    generator = torch.Generator().manual_seed(0)
    rotations = uniform_rotations(lambda n: torch.rand(len(x), n, generator=generator))
    x[..., :3] = x[..., :3] @ rotations
    x[..., :3] += (torch.rand(len(x), 1, 3, generator=generator) - 0.5) * lattice.spacing
    found = found_in(x, lattice)
    assert max(rmsd(d, sample, lattice) for d, sample in zip(found, x, strict=True)) < 0.01


def _centred_molecules(path):
    for found in read_file(File(path, path.name)):
        points = found.positions - found.positions.mean(0)
        yield [
            (SYMBOLS[number], *place)
            for number, place in zip(found.elements, points.tolist(), strict=True)
        ]
