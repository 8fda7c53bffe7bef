"""Files of generated molecules: read back by RDKit, failures kept with their reason."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from known_molecules import INFO, densities, known, without
from PIL import Image
from rawdiff_molecules.bonds import find_bonds
from rawdiff_molecules.decode import Decoded
from rawdiff_molecules.depiction import draw_molecules
from rawdiff_molecules.features import Positioned
from rawdiff_molecules.maps import read_map
from rawdiff_molecules.molecule_writer import MoleculeWriter, in_order
from rawdiff_molecules.xyz import read_xyz
from rdkit import Chem

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError

TEXTS = ["CCO", "c1ccccc1", "N[C@@H](C)C(=O)O", "CC[NH3+]"]
BROKEN = Positioned(np.array([6, 8], np.uint8), np.array([[0, 0, -2], [0, 0, 2.0]], np.float32))


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """Four molecules, two atoms that are none, and a sample without atoms."""
    whole = densities([*map(known, TEXTS), BROKEN]).numpy()
    return np.concatenate([whole, np.zeros((1, *INFO.shape), np.float32)])


def written(folder: Path) -> list:
    with Chem.SDMolSupplier(str(folder / "molecules.sdf"), removeHs=False) as supplier:
        return list(supplier)


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_molecules_are_read_back_with_bonds_positions_and_heights(samples, tmp_path) -> None:
    MoleculeWriter().write(samples, tmp_path, info=INFO)
    found = written(tmp_path)
    assert [one.GetProp("_Name") for one in found] == ["000000", "000001", "000002", "000003"]
    for one, text in zip(found, TEXTS, strict=True):
        Chem.AssignStereochemistryFrom3D(one)
        assert Chem.MolToSmiles(Chem.RemoveHs(one)) == Chem.CanonSmiles(text)
        assert one.GetProp("smiles") == Chem.CanonSmiles(text)
        heights = [atom.GetDoubleProp("peak") for atom in one.GetAtoms()]
        np.testing.assert_allclose(heights, 1, atol=0.05)
        expected = known(text).positions
        got = one.GetConformer().GetPositions()
        nearest = np.linalg.norm(got[:, None] - expected, axis=-1).min(1)
        assert nearest.max() < 0.01
    assert found[3].GetProp("bonds").endswith("charge +1")


def test_what_failed_is_kept_with_its_reason(samples, tmp_path) -> None:
    paths = MoleculeWriter().write(samples, tmp_path, info=INFO)
    failed = tmp_path / "failed" / "000004.xyz"
    assert failed in paths
    lines = failed.read_text().splitlines()
    assert lines[1].startswith("000004 no bond orders fit: ")
    (molecule,) = read_xyz(lines, "", "one")
    assert sorted(molecule.elements) == [6, 8]
    assert np.linalg.norm(np.subtract(*molecule.positions)) == pytest.approx(4, abs=0.01)
    entries = report(tmp_path)["samples"]
    assert entries[4]["how"] == "distances"
    assert entries[4]["reason"] in lines[1]
    assert (entries[5]["atoms"], entries[5]["how"], entries[5]["reason"]) == (0, "none", "no atoms")


def test_the_report_has_every_sample_and_its_counts(samples, tmp_path) -> None:
    MoleculeWriter().write(samples, tmp_path, info=INFO)
    found = report(tmp_path)
    assert found["counts"] == {
        "samples": 6,
        "one_neutral_molecule": 3,
        "neutral": 3,
        "ion": 1,
        "distances": 1,
        "none": 1,
    }
    assert [entry["sample"] for entry in found["samples"]] == list(range(6))
    assert [entry["formula"] for entry in found["samples"]][:2] == ["C2H6O", "C6H6"]
    assert found["samples"][3]["charge"] == 1
    assert found["samples"][0]["stable_atoms"] == found["samples"][0]["atoms"] == 9


def test_a_set_in_parts_is_the_set_in_one(samples, tmp_path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    MoleculeWriter().write(samples, whole, info=INFO)
    folders = [tmp_path / f"{first}" for first in (0, 2, 4)]
    for first, folder in zip((0, 2, 4), folders, strict=True):
        MoleculeWriter().write(samples[first : first + 2], folder, info=INFO, first_index=first)
    for folder in folders:
        shutil.copytree(folder, parts, dirs_exist_ok=True)
    MoleculeWriter().join(folders, parts, info=INFO)
    files = [{p.relative_to(one) for p in one.rglob("*.*")} for one in (whole, parts)]
    assert files[0] == files[1]
    assert report(whole) == report(parts)
    for a, b in zip(written(whole), written(parts), strict=True):
        assert Chem.MolToSmiles(a) == Chem.MolToSmiles(b)
        assert [x.GetSymbol() for x in a.GetAtoms()] == [x.GetSymbol() for x in b.GetAtoms()]
        positions = [one.GetConformer().GetPositions() for one in (a, b)]
        np.testing.assert_allclose(*positions, atol=2e-4)


def test_atoms_are_written_in_an_order_of_their_own() -> None:
    """That of decoding goes by heights, which rounding makes different in another batch."""
    rng = np.random.default_rng(0)
    atoms = Decoded(
        np.array([1, 8, 6, 6, 1], np.uint8), rng.normal(size=(5, 3)), rng.normal(size=5)
    )
    shuffled = Decoded(*(values[[3, 1, 4, 0, 2]] for values in vars(atoms).values()))
    expected, found = in_order(atoms), in_order(shuffled)
    assert found.elements.tolist() == [8, 6, 6, 1, 1]
    for name in vars(found):
        assert (getattr(found, name) == getattr(expected, name)).all(), name


def test_writing_again_replaces_an_earlier_set(samples, tmp_path) -> None:
    MoleculeWriter().write(samples, tmp_path, info=INFO)
    MoleculeWriter().write(samples[:1], tmp_path, info=INFO)
    assert len(written(tmp_path)) == len(report(tmp_path)["samples"]) == 1


def test_the_picture_has_a_tile_for_each_sample(samples) -> None:
    page = MoleculeWriter().draw(samples, info=INFO, columns=3)
    two_rows = MoleculeWriter().draw(samples, info=INFO, columns=10)
    assert page.height > 1.8 * two_rows.height
    assert two_rows.width > 1.8 * page.width


def test_a_molecule_is_drawn_and_a_failure_is_a_grey_tile() -> None:
    benzene, broken = known("c1ccccc1"), without(known("C"), 0)
    good, bad = (
        draw_molecules([find_bonds(one.elements, one.positions)], 1) for one in (benzene, broken)
    )
    assert grey(good) < 0.05
    assert grey(bad) > 0.5


def grey(image: Image.Image) -> float:
    return float((np.asarray(image) == (211, 211, 211)).all(-1).mean())


def test_densities_are_written_where_they_are_wanted(samples, tmp_path) -> None:
    paths = MoleculeWriter(maps=True).write(samples[1:3], tmp_path, info=INFO, first_index=0)
    assert paths[-2:] == [tmp_path / "maps" / f"{i:06d}.mrc" for i in range(2)]
    np.testing.assert_allclose(read_map(paths[-1]).values, samples[2].sum(0), atol=1e-6)


def test_other_samples_are_refused(tmp_path) -> None:
    photographs = DataInfo((3, 8, 8), ("red", "green", "blue"))
    with pytest.raises(UserError, match="densities on a lattice"):
        MoleculeWriter().write(np.zeros((1, 3, 8, 8), np.float32), tmp_path, info=photographs)


def test_the_way_to_a_molecule_is_a_file_of_frames(samples, tmp_path) -> None:
    frames = np.stack([np.zeros_like(samples), samples])
    paths = MoleculeWriter().write_frames(frames, tmp_path, info=INFO, first_index=7)
    assert paths[0] == tmp_path / "trajectory" / "000007.xyz"
    lines = paths[0].read_text().splitlines()
    count = len(known(TEXTS[0]).elements)
    assert lines[:3] == ["0", "000007 stage 1 of 2", str(count)]
    assert len(lines) == 4 + count


def test_where_nothing_has_bonds_there_is_no_empty_sdf(samples, tmp_path) -> None:
    paths = MoleculeWriter().write(samples[4:], tmp_path, info=INFO)
    assert not (tmp_path / "molecules.sdf").exists()
    assert tmp_path / "failed" / "000000.xyz" in paths
