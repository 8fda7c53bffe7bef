"""Bonds from positions: known molecules, ions, fragments, and what is no molecule."""

import numpy as np
import pytest
from known_molecules import known, without
from rawdiff_molecules.bonds import find_bonds
from rawdiff_molecules.features import Positioned, smiles
from rdkit import Chem

KNOWN = [
    "C",
    "O",
    "c1ccccc1",
    "O=[O+][O-]",
    "C[N+](=O)[O-]",
    "[NH3+]CC(=O)[O-]",
    "[C-]#[N+]C",
    "c1cc[nH]c1",
    "CS(N)(=O)=O",
    "N[C@@H](C)C(=O)O",
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
]


def bonds_of(molecule: Positioned):
    return find_bonds(molecule.elements, molecule.positions)


@pytest.mark.parametrize("text", KNOWN)
def test_known_molecules_get_their_bonds_charges_and_stereo(text: str) -> None:
    bonded = bonds_of(known(text))
    assert (bonded.how, bonded.charge, bonded.num_fragments) == ("neutral", 0, 1)
    assert smiles(bonded.molecule, stereo=True) == Chem.CanonSmiles(text)


@pytest.mark.parametrize(("text", "charge"), [("CC(=O)[O-]", -1), ("C[NH3+]", 1)])
def test_an_ion_is_found_and_told(text: str, charge: int) -> None:
    bonded = bonds_of(known(text))
    assert (bonded.how, bonded.charge) == ("ion", charge)
    assert f"charge {charge:+d}" in bonded.provenance


def test_bonds_do_not_cross_a_cage() -> None:
    bonded = bonds_of(known("C12CC(C1)C2"))  # bicyclo[1.1.1]pentane
    assert smiles(bonded.molecule, stereo=False) == Chem.CanonSmiles("C12CC(C1)C2")
    assert "covalent radii x" in bonded.provenance


def test_two_molecules_are_two_fragments() -> None:
    water = known("O")
    far = Positioned(
        np.tile(water.elements, 2), np.concatenate([water.positions, water.positions + 5])
    )
    bonded = bonds_of(far)
    assert (bonded.how, bonded.num_fragments) == ("neutral", 2)


def test_no_bond_is_cut_to_gain_valences() -> None:
    """Two waters with oxygen at 1.75 Angstrom are bound, though apart they would be right."""
    water = known("O")
    away = water.positions[0] - water.positions[1:].mean(0)
    mirrored = 2 * water.positions[0] - water.positions + 1.75 * away / np.linalg.norm(away)
    pair = Positioned(np.tile(water.elements, 2), np.concatenate([water.positions, mirrored]))
    bonded = bonds_of(pair)
    assert bonded.how != "neutral"
    assert bonded.num_fragments == 1


def test_where_no_orders_fit_bonds_are_single_and_the_reason_stays() -> None:
    broken = known("c1ccccc1")
    for _ in range(3):
        broken = without(broken, 6)  # the first hydrogen
    bonded = bonds_of(
        Positioned(np.append(broken.elements, 8), np.append(broken.positions, [[0, 0, 9]], axis=0))
    )
    assert bonded.how == "distances"
    assert bonded.num_fragments == 2
    assert "no bond orders fit: " in bonded.reason
    assert {bond.GetBondTypeAsDouble() for bond in bonded.molecule.GetBonds()} == {1.0}


@pytest.mark.parametrize(
    ("elements", "positions", "reason"),
    [
        ([], np.zeros((0, 3)), "no atoms"),
        ([6, 1], [[0, 0, 0], [0, 0, np.nan]], "no finite position"),
        ([6, 1], [[0, 0, 0], [0, 0, 0.1]], "0.10 Angstrom apart"),
        ([0], [[0, 0, 0]], "atomic number 0"),
    ],
)
def test_what_is_no_molecule_has_a_reason(elements, positions, reason: str) -> None:
    bonded = find_bonds(np.array(elements, dtype=np.uint8), np.array(positions))
    assert (bonded.molecule, bonded.how) == (None, None)
    assert reason in bonded.reason


def test_the_search_for_orders_ends(monkeypatch) -> None:
    monkeypatch.setattr("rawdiff_molecules.bonds.MAX_ITERATIONS", 1)
    bonded = bonds_of(known("Cn1c(=O)c2c(ncn2C)n(C)c1=O"))
    assert bonded.how == "distances"


def test_a_bare_proton_makes_no_molecule_whole() -> None:
    """RDKit alone calls it neutral, with a negative charge at the other end."""
    torn = known("CN")
    torn.positions[-1] += 4
    bonded = bonds_of(torn)
    assert bonded.how == "distances"
    assert "bound to nothing" in bonded.reason


def test_a_carbene_is_no_molecule() -> None:
    """RDKit alone calls CH2 neutral, with two electrons of its own."""
    water = known("O")
    bonded = bonds_of(Positioned(np.array([6, 1, 1], np.uint8), 1.13 * water.positions))
    assert bonded.how == "distances"
    assert "unpaired" in bonded.reason


def test_charges_beyond_the_limit_make_no_molecule_whole(monkeypatch) -> None:
    monkeypatch.setattr("rawdiff_molecules.bonds.MAX_CHARGE", 0)
    assert bonds_of(known("CN")).how == "neutral"
    assert bonds_of(known("C[N+](=O)[O-]")).how == "distances"


def test_random_atoms_never_raise() -> None:
    rng = np.random.default_rng(0)
    for num in (1, 2, 5, 30, 120):
        for _ in range(5):
            elements = rng.choice([1, 6, 7, 8, 9, 15, 16, 17], num).astype(np.uint8)
            find_bonds(elements, rng.uniform(-0.6, 0.6, (num, 3)) * num)
