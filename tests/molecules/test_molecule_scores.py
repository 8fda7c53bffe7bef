"""Scores of molecules: known ones, noise, the sample of QM9, and sets without any molecule."""

import gzip

import numpy as np
import pytest
import torch
from known_molecules import INFO, basis, densities, known, noisy, without
from rawdiff_molecules.features import Positioned, features, identity
from rawdiff_molecules.molecule_evaluator import GOALS, MoleculeEvaluator
from rdkit import Chem

from rawdiff.data.dataset import DataInfo
from rawdiff.evaluate.evaluator import Basis

TEXTS = ["CCO", "c1ccccc1", "CC(=O)C", "C1CC1", "CCN", "CC#N", "OCC=C", "c1cc[nH]c1", "CCC", "COC"]


@pytest.fixture(scope="module")
def molecules() -> list[Positioned]:
    return [known(text) for text in TEXTS]


def rows(molecules, **keys):
    return features(molecules, 2 * INFO.stored_shape[0], **({"ions": False} | keys))


def scores(generated, reference, **keys) -> dict[str, float]:
    return MoleculeEvaluator(**keys).score(
        rows(generated, **keys), rows(reference, **keys), basis()
    )


def test_a_set_beside_itself_is_perfect(molecules) -> None:
    found = scores(molecules, molecules)
    assert found.keys() == GOALS.keys()
    shares = {"", "decoded", "connected", "validity", "atom_stability", "molecule_stability"}
    assert {found[key] for key in shares} == {1.0}
    assert found["uniqueness"] == 1
    assert found["novelty"] == found["ions"] == 0
    assert {found[key] for key in GOALS if key.endswith(("_w1", "_tv"))} == {0.0}
    assert found["strain"] == pytest.approx(0, abs=0.01)  # they stand at a minimum


def test_noise_lowers_validity_and_raises_strain_and_distances(molecules) -> None:
    many = molecules * 4
    found = [scores(noisy(many, spread), molecules) for spread in (0, 0.05, 0.1, 0.2)]
    for key in ("validity", "", "molecule_stability", "atom_stability"):
        values = [each[key] for each in found]
        assert values == sorted(values, reverse=True), key
        assert values[-1] < 0.9, key
    for key in ("strain", "bond_length_w1", "bond_angle_w1", "valence_w1"):
        values = [each[key] for each in found]
        assert values == sorted(values), key
    assert found[2]["strain"] > 50


def test_the_same_molecule_in_another_pose_is_the_same(molecules) -> None:
    turned = [Positioned(one.elements[::-1], one.positions[::-1, [1, 2, 0]]) for one in molecules]
    found = scores(turned + turned[:5], molecules[:4])
    assert found["uniqueness"] == pytest.approx(10 / 15)
    assert found["novelty"] == pytest.approx(6 / 10)


def test_mirror_images_are_one_molecule_to_uniqueness() -> None:
    left, right = (Chem.MolFromSmiles(text) for text in ("N[C@@H](C)O", "N[C@H](C)O"))
    assert identity(left) == identity(right) != identity(Chem.MolFromSmiles("NC(C)S"))


def test_a_missing_hydrogen_makes_no_valid_molecule() -> None:
    methyl = without(known("C"), 4)
    found = scores([methyl] * 2, [known("C")] * 2)
    assert found[""] == found["validity"] == found["molecule_stability"] == 0
    assert found["ions"] == found["num_atoms_w1"] == 1
    assert scores([methyl] * 2, [known("C")] * 2, ions=True)["validity"] == 1


def test_two_molecules_in_one_sample_are_valid_but_not_connected() -> None:
    water = known("O")
    two = Positioned(
        np.tile(water.elements, 2), np.concatenate([water.positions, water.positions + 4])
    )
    found = scores([two] * 2, [water] * 2)
    assert (found["validity"], found["connected"], found[""]) == (1, 0, 0)


def test_distances_are_those_of_the_change() -> None:
    """Water whose bonds are 0.05 Angstrom longer, along themselves."""
    water = known("O")
    longer = water.positions.copy()
    for i in (1, 2):
        bond = longer[i] - longer[0]
        longer[i] += 0.05 * bond / np.linalg.norm(bond)
    found = scores([Positioned(water.elements, longer)] * 2, [water] * 2)
    assert found["bond_length_w1"] == pytest.approx(0.05, abs=1e-5)
    assert found["bond_angle_w1"] == pytest.approx(0, abs=1e-3)
    assert "torsion_w1" not in found
    more = scores([known("CC")] * 2, [known("C")] * 2)  # 2 of 8 and 1 of 5 atoms are carbon
    assert more["num_atoms_w1"] == 3
    assert more["element_tv"] == pytest.approx(2 / 8 - 1 / 5)


def test_samples_without_atoms_have_only_shares() -> None:
    nothing = Positioned(np.zeros(0, np.uint8), np.zeros((0, 3)))
    found = scores([nothing] * 2, [known("C")] * 2)
    assert set(found.values()) == {0.0}
    assert "strain" not in found


def test_more_atoms_than_there_is_room_for_are_counted() -> None:
    big, small = known("CCCCCCCC"), known("C")
    found = features([big, small], 10, ions=False)
    assert found["num_atoms"].tolist() == [26, 5]
    assert found["num_stable"].tolist() == [26, 5]
    assert (found["elements"] > 0).sum(1).tolist() == [10, 5]
    assert (found["bonds"][:, :, 0] >= 0).sum(1).tolist() == [0, 4]


def test_densities_are_decoded_row_by_row(molecules) -> None:
    evaluator, batch = MoleculeEvaluator(), densities(molecules)
    found = evaluator.features(batch, basis())
    assert torch.equal(found["identity"], rows(molecules)["identity"])
    alone = evaluator.features(batch[3:4], basis())
    for key in ("identity", "num_atoms", "how", "valences", "bonds"):
        assert torch.equal(alone[key][0], found[key][3]), key
    assert evaluator.score(found, found, basis())[""] == 1


def test_other_data_have_no_score_and_hear_why() -> None:
    other = Basis(
        DataInfo((3, 8, 8), ("red", "green", "blue")), None, torch.zeros(3), torch.ones(3)
    )
    assert "densities" in (MoleculeEvaluator().obstacle(other) or "")
    assert MoleculeEvaluator().obstacle(basis()) is None


def test_scores_of_real_molecules(shared) -> None:
    with gzip.open(shared / "data/molecules/qm9_sample_2000.sdf.gz") as file:
        real = [
            Positioned(
                np.array([atom.GetAtomicNum() for atom in one.GetAtoms()], np.uint8),
                one.GetConformer().GetPositions().astype(np.float32),
            )
            for one in Chem.ForwardSDMolSupplier(file, removeHs=False)
        ]
    assert len(real) == 2000
    found = scores(real[::4], real[1::4])
    assert found["validity"] > 0.98
    assert found["molecule_stability"] > 0.98
    assert found["atom_stability"] > 0.999
    assert found["novelty"] > 0.95
    assert found["strain"] < 10
    assert found["bond_length_w1"] < 0.01
    assert scores(noisy(real[:200], 0.1), real[1:20])["validity"] < 0.95
