"""Atoms that have a valence they can have: whole numbers, aromatic rings included."""

import numpy as np
import pytest
from known_molecules import known, without
from rawdiff_molecules.bonds import Bonded, find_bonds
from rawdiff_molecules.stability import stable_atoms
from rdkit import Chem


def stable(molecule, *, ions: bool = False):
    return stable_atoms(find_bonds(molecule.elements, molecule.positions), ions=ions)


@pytest.mark.parametrize(
    "text",
    [
        "C",
        "O",
        "c1ccccc1",
        "c1cc[nH]c1",
        "O=[O+][O-]",
        "C[N+](=O)[O-]",
        "[NH3+]CC(=O)[O-]",
        "[C-]#[N+]C",
        "CS(N)(=O)=O",
    ],
)
def test_all_atoms_of_a_known_molecule_are_stable(text: str) -> None:
    assert stable(known(text)).all()


def test_methane_that_lost_a_hydrogen_has_an_unstable_carbon() -> None:
    methyl = without(known("C"), 4)
    assert stable(methyl).tolist() == [False, True, True, True]
    assert stable(methyl, ions=True).tolist() == [False, True, True, True]


def test_an_ion_is_stable_only_where_ions_are_wanted() -> None:
    methylammonium = known("C[NH3+]")
    nitrogen = methylammonium.elements == 7
    assert (stable(methylammonium) == ~nitrogen).all()
    assert stable(methylammonium, ions=True).all()


@pytest.mark.parametrize(
    ("order", "expected"),
    [(Chem.BondType.SINGLE, [True, True, True]), (Chem.BondType.DOUBLE, [False, False, False])],
)
def test_hydrogen_with_two_bonds_to_oxygen_is_unstable(order, expected) -> None:
    """Valences are sums of orders; none is rounded down to one that is allowed."""
    molecule = Chem.RWMol(Chem.MolFromSmiles("[H]O[H]", sanitize=False))
    for bond in molecule.GetBonds():
        bond.SetBondType(order)
    assert stable_atoms(Bonded(molecule, "distances", 0, 1)).tolist() == expected


def test_a_carbon_between_aromatic_bonds_needs_its_hydrogen() -> None:
    """Its two bonds have the orders 1 and 2 whichever way round: 3 is not rounded up to 4."""
    phenyl = without(known("c1ccccc1"), 6)
    assert stable(phenyl).sum() == 10


def test_atoms_that_are_no_molecule_are_not_stable() -> None:
    nothing = find_bonds(np.zeros(0, np.uint8), np.zeros((0, 3)))
    assert len(stable_atoms(nothing)) == 0
