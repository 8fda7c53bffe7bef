import numpy as np
import pytest
import torch
from lattice_cases import ETHYNE, METHANE, WATER, qm9_lattice, stored
from rawdiff_molecules.decode import MAX_ATOMS, decode
from rawdiff_molecules.elements import SYMBOLS
from rawdiff_molecules.lattice import Lattice, voxelize
from rawdiff_molecules.molecules import Molecules

from rawdiff.data.dataset import DataInfo, collate


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


def test_noise_is_decoded_too_and_what_is_not_finite_is_nothing():
    noise = 100 * torch.randn(2, 4, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    noise[1] = torch.nan
    noise[1, 0, 8, 8, 8] = torch.inf
    many, few = decode(noise, info_of(qm9_lattice(16)))
    assert len(many.elements) <= MAX_ATOMS
    assert np.isfinite(many.positions).all()
    assert len(few.elements) <= 1


def test_molecules_of_qm9_come_back_exactly(shared, tmp_path):
    """100 of them, turned and moved; `benchmarks/voxels.py` does it with all."""
    raw = Molecules(path=str(shared / "data" / "molecules" / "qm9_sample_2000.sdf.gz"))
    raw.pack(tmp_path, lambda done, of: None)
    data = raw.packed(tmp_path)
    batch = collate(data.get_batch(range(100)), range(100))
    generator = torch.Generator().manual_seed(0)
    atoms = data.augment(batch, lambda n: torch.rand(100, n, generator=generator))
    found = decode(data.render(atoms).x, data.info)
    errors = [rmsd(d, x, data.lattice) for d, x in zip(found, atoms.x, strict=True)]
    assert max(errors) < 0.01
