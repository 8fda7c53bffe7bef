import numpy as np
import pytest
import torch
from lattice_cases import WATER, qm9_lattice, stored
from rawdiff_molecules.lattice import voxelize
from rawdiff_molecules.map_cubes import CUBE_ROTATIONS, MapCubes, turned
from rawdiff_molecules.map_writer import MapWriter
from rawdiff_molecules.maps import DensityMap, read_map, write_map

from rawdiff.data.dataset import DataInfo, collate
from rawdiff.errors import UserError


def maps_in(folder, shape=(9, 8, 12), spacing=1.5):
    values = np.random.default_rng(0).normal(5, 2, shape).astype(np.float32)
    write_map(folder / "a.mrc", DensityMap(values, (spacing,) * 3, (0, 0, 0)))
    return (values - values.mean()) / values.std()


def test_cubes_cover_a_map_to_its_ends(tmp_path):
    values = maps_in(tmp_path)
    data = MapCubes(path=tmp_path, num_voxels=8, spacing=1.5)
    assert len(data) == 2 * 1 * 2
    np.testing.assert_allclose(data[0].x[0], values[:8, :8, :8], atol=1e-5)
    np.testing.assert_allclose(data[3].x[0], values[1:, :8, 4:], atol=1e-5)
    assert data[0].x.shape == data.info.shape


def test_the_turns_of_a_cube_are_24_different_ones_without_mirrors():
    x = torch.randn(1, 2, 4, 4, 4).expand(24, -1, -1, -1, -1)
    after = turned(x, torch.tensor(CUBE_ROTATIONS))
    assert len({tuple(cube.flatten().tolist()) for cube in after}) == 24
    assert all(np.linalg.det(rotation) > 0 for rotation in CUBE_ROTATIONS)


def test_a_turned_density_is_that_of_turned_atoms():
    lattice = qm9_lattice(8)
    atoms = stored([WATER] * 24, lattice)
    rotations = torch.tensor(CUBE_ROTATIONS)
    moved = atoms.clone()
    moved[..., :3] = atoms[..., :3] @ rotations.mT
    expected = voxelize(moved, lattice)
    torch.testing.assert_close(turned(voxelize(atoms, lattice), rotations), expected)


def test_turning_is_drawn_for_each_cube_and_leaves_the_map_as_it_is(tmp_path):
    maps_in(tmp_path)
    data = MapCubes(path=tmp_path, num_voxels=8, spacing=1.5)
    batch = collate(data.get_batch(range(4)), range(4))
    before = batch.x.clone()
    changed = data.augment(batch, lambda n: torch.tensor([[0.01], [0.3], [0.6], [0.9]]))
    torch.testing.assert_close(changed.x.flatten(1).sort().values, before.flatten(1).sort().values)
    assert not torch.equal(changed.x[1], changed.x[2])
    np.testing.assert_array_equal(data[0].x, before[0])


def test_maps_of_another_spacing_are_a_clear_error(tmp_path):
    maps_in(tmp_path, spacing=1.1)
    with pytest.raises(UserError, match=r"1\.1, 1\.1, 1\.1 Angstrom, not 1\.5"):
        len(MapCubes(path=tmp_path, num_voxels=8, spacing=1.5))


def test_a_map_smaller_than_a_cube_is_a_clear_error(tmp_path):
    maps_in(tmp_path)
    with pytest.raises(UserError, match="no cube of 16 fits"):
        len(MapCubes(path=tmp_path, num_voxels=16, spacing=1.5))


def test_generated_densities_are_written_where_they_lie(tmp_path):
    lattice = qm9_lattice(8)
    info = DataInfo(shape=lattice.shape, channels=lattice.elements, coordinates=lattice.coordinates)
    samples = voxelize(stored([WATER], lattice), lattice).numpy()
    (path,) = MapWriter().write(samples, tmp_path / "out", info=info, first_index=7)
    assert path.name == "000007.mrc"
    found = read_map(path)
    np.testing.assert_allclose(found.values, samples[0].sum(0), atol=1e-6)
    assert found.origin == pytest.approx((-1.4,) * 3)
