import gzip
import struct
from itertools import permutations

import gemmi
import numpy as np
import pytest
from rawdiff_molecules.maps import DensityMap, read_map, write_map

from rawdiff.errors import UserError

VALUES = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)  # [X, Y, Z]
SPACING, ORIGIN = (0.5, 0.75, 1.25), (-3.0, 4.5, 10.0)
DENSITY = DensityMap(VALUES, SPACING, ORIGIN)


def header(order, *, start=(0, 0, 0), origin=(0.0, 0.0, 0.0), angles=(90.0,) * 3):
    """Of VALUES with its axes in another order; `start` is of columns, rows, sections."""
    sizes = [VALUES.shape[axis] for axis in order]
    cell = [n * step for n, step in zip(VALUES.shape, SPACING, strict=True)]
    words = struct.pack("<10i", *sizes, 2, *start, *VALUES.shape)
    words += struct.pack("<6f", *cell, *angles)
    words += struct.pack("<3i", *(axis + 1 for axis in order))
    words = words.ljust(49 * 4, b"\0") + struct.pack("<3f", *origin)
    words += b"MAP \x44\x44\0\0"
    return words.ljust(1024, b"\0")


def file_in(folder, order, **keys):
    """Written by hand, byte by byte: columns run fastest."""
    path = folder / "a.map"
    path.write_bytes(header(order, **keys) + VALUES.transpose(order).tobytes(order="F"))
    return path


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_order_of_axes_is_read_as_x_y_z(tmp_path, order):
    found = read_map(file_in(tmp_path, order, origin=ORIGIN))
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.spacing == pytest.approx(SPACING)
    assert found.origin == pytest.approx(ORIGIN)


def test_the_place_of_a_crystal_map_is_counted_in_voxels_of_its_columns_rows_and_sections(tmp_path):
    order = (2, 0, 1)  # columns are z, rows x, sections y
    found = read_map(file_in(tmp_path, order, start=(8, -2, 4)))
    assert found.origin == pytest.approx((-2 * 0.5, 4 * 0.75, 8 * 1.25))


def test_a_map_that_is_written_is_read_again(tmp_path):
    write_map(tmp_path / "a.mrc", DENSITY)
    found = read_map(tmp_path / "a.mrc")
    np.testing.assert_array_equal(found.values, VALUES)
    assert (found.spacing, found.origin) == (pytest.approx(SPACING), pytest.approx(ORIGIN))


def test_another_program_sees_a_written_map_as_it_is(tmp_path):
    write_map(tmp_path / "a.mrc", DENSITY)
    found = gemmi.read_ccp4_map(str(tmp_path / "a.mrc"), setup=True)
    assert found.grid.get_value(1, 2, 3) == VALUES[1, 2, 3]
    assert found.grid.spacing == pytest.approx(SPACING)


def test_a_packed_map_is_read(tmp_path):
    path = file_in(tmp_path, (0, 1, 2))
    (tmp_path / "b.map.gz").write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_map(tmp_path / "b.map.gz").values, VALUES)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1050]), "can be read"),
        (lambda path: path.write_bytes(b"no map"), "can be read"),
        (lambda path: path.write_bytes(header((0, 1, 1)) + VALUES.tobytes()), "MAPC/MAPR/MAPS"),
        (lambda path: path.unlink(), "no map"),
    ],
)
def test_a_damaged_map_is_a_clear_error(tmp_path, what, message):
    path = file_in(tmp_path, (0, 1, 2))
    what(path)
    with pytest.raises(UserError, match=message):
        read_map(path)


def test_a_skewed_cell_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="right angles"):
        read_map(file_in(tmp_path, (0, 1, 2), angles=(90.0, 90.0, 120.0)))


def test_a_map_without_the_size_of_its_cell_is_a_clear_error(tmp_path):
    path = file_in(tmp_path, (0, 1, 2))
    content = bytearray(path.read_bytes())
    content[40:52] = bytes(12)
    path.write_bytes(content)
    with pytest.raises(UserError, match="how large its cell is"):
        read_map(path)
