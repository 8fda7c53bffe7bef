"""Bond lengths, angles and torsions against what they are by construction."""

import numpy as np
import pytest
from rawdiff_molecules.internal import Atoms, bond_angles, bond_lengths, torsions


def chain(torsion: float) -> Atoms:
    """H-O-O-H with bonds of 1 and 1.5 Angstrom, angles of 100 degrees and this torsion."""
    bend, turn = np.deg2rad(100), np.deg2rad(torsion)
    up, back = np.sin(bend), np.cos(bend)
    positions = np.array(
        [
            [back, up, 0],
            [0, 0, 0],
            [1.5, 0, 0],
            [1.5 - back, up * np.cos(turn), up * np.sin(turn)],
        ]
    )
    bonds = np.array([[0, 1, 1], [1, 2, 1], [2, 3, 1]])
    return Atoms(np.array([1, 8, 8, 1]), positions, bonds)


def test_lengths_and_angles_are_those_of_the_construction() -> None:
    lengths, angles = bond_lengths(chain(60)), bond_angles(chain(60))
    assert lengths.keys() == {(1, 8, 1), (8, 8, 1)}
    np.testing.assert_allclose(lengths[1, 8, 1], [1, 1], atol=1e-12)
    np.testing.assert_allclose(lengths[8, 8, 1], [1.5], atol=1e-12)
    np.testing.assert_allclose(angles[8,], [100, 100], atol=1e-9)


@pytest.mark.parametrize("degrees", [0, 30, 90, 180])
def test_a_torsion_and_its_mirror_image_are_one(degrees: float) -> None:
    for sign in (1, -1):
        np.testing.assert_allclose(torsions(chain(sign * degrees))[8, 8, 1], degrees, atol=1e-6)


def test_a_line_and_a_triangle_have_no_torsion() -> None:
    line = chain(0)
    line.positions[3] = [3, 0, 0]
    assert torsions(line) == {}
    triangle = Atoms(
        np.array([6, 6, 6]),
        np.array([[0, 0, 0], [1, 0, 0], [0, 1.0, 0]]),
        np.array([[0, 1, 1], [1, 2, 1], [0, 2, 1]]),
    )
    assert torsions(triangle) == {}
    assert len(bond_angles(triangle)[6,]) == 3


def test_numbers_of_angles_and_torsions_follow_from_the_graph() -> None:
    """Ethane: 6 angles at each carbon and 9 torsions about the bond between them."""
    rng = np.random.default_rng(0)
    bonds = [[0, 1, 1], *([0, i, 1] for i in (2, 3, 4)), *([1, i, 1] for i in (5, 6, 7))]
    ethane = Atoms(np.array([6, 6, *[1] * 6]), rng.normal(size=(8, 3)), np.array(bonds))
    assert len(bond_angles(ethane)[6,]) == 12
    assert {kind: len(values) for kind, values in torsions(ethane).items()} == {(6, 6, 1): 9}


def test_padded_molecules_become_one_row_of_atoms() -> None:
    elements = np.array([[6, 8, 0], [1, 0, 0], [7, 7, 7]], dtype=np.uint8)
    bonds = np.full((3, 2, 3), -1, dtype=np.int16)
    bonds[0, 0], bonds[2, 1] = (0, 1, 2), (2, 0, 1)
    atoms = Atoms.of(elements, np.zeros((3, 3, 3)), bonds)
    assert atoms.elements.tolist() == [6, 8, 1, 7, 7, 7]
    assert atoms.bonds.tolist() == [[0, 1, 2], [5, 3, 1]]


def test_atoms_without_bonds_have_no_geometry() -> None:
    atoms = Atoms(np.array([1, 1]), np.zeros((2, 3)), np.zeros((0, 3), dtype=np.int64))
    assert (bond_lengths(atoms), bond_angles(atoms), torsions(atoms)) == ({}, {}, {})
