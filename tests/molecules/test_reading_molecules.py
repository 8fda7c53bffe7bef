"""XYZ and SDF files: every molecule is read, or rejected with a reason."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from molecule_files import molecules_of, packed
from rawdiff_molecules.molecules import Molecules
from rawdiff_molecules.ragged import Entries
from rdkit import Chem

from rawdiff.errors import UserError

WATER = "3\nwater\nO 0 0 0.1\nH 0 0.76 -0.5\nH 0 -0.76 -0.5\n"
SALT = "2\nsalt\nNa 0 0 0\nCl 0 0 2.36\n"


def test_every_frame_is_read_with_its_place_in_the_file(tmp_path: Path) -> None:
    """Ids are comments of one word, else the file's name and the frame's number."""
    unnamed = SALT.replace("salt", "a pair of ions")
    entries = molecules_of(WATER + unnamed + SALT, tmp_path)
    assert entries.ids == ["water", "some:2", "salt"]
    water, pair = entries.molecules([0, 1])
    assert (water.source, pair.source) == ("some.xyz#1", "some.xyz#2")
    assert water.elements.tolist() == [8, 1, 1]
    assert pair.elements.tolist() == [11, 17]
    np.testing.assert_array_equal(water.positions[1], np.float32([0, 0.76, -0.5]))
    assert water.bonds is None


def test_extended_xyz_says_where_its_columns_are(tmp_path: Path) -> None:
    header = 'Lattice="1 0 0 0 1 0 0 0 1" Properties=id:I:1:pos:R:3:species:S:1:charge:R:1'
    entries = molecules_of(f"1\n{header}\n7 1.0 2.0 3.0 C 0.5\n", tmp_path)
    (atom,) = entries.molecules([0])
    assert atom.elements.tolist() == [6]
    assert atom.positions.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("1\nbad\nQq 0 0 0\n", "unknown element 'Qq'"),
        ("1\nbad\nC 0 nan 0\n", "not a finite number"),
        ("1\nbad\nC 0 zero 0\n", "not an element and three coordinates"),
        ("1\nbad\nC 0 0\n", "not an element and three coordinates"),
        ("0\nbad\n", "no atoms"),
        ("1\nwater\nC 0 0 0\n", "an entry of this id was there before"),
    ],
)
def test_a_bad_frame_is_rejected_alone(frame: str, reason: str, tmp_path: Path) -> None:
    entries = molecules_of(WATER + frame + SALT, tmp_path)
    assert entries.ids == ["water", "salt"]
    (reject,) = entries.rejects
    assert reject.source == "some.xyz#2"
    assert reason in reject.reason
    assert entries.molecules([0])[0].elements.tolist() == [8, 1, 1]  # the first of an id stays


def test_conformers_that_share_a_title_can_all_stay(tmp_path: Path) -> None:
    path = tmp_path / "conformers.xyz"
    path.write_text(WATER * 3 + SALT)
    for repeated, ids in (
        ("number", ["water", "water#2", "water#3", "salt"]),
        ("reject", ["water", "salt"]),
    ):
        data = Molecules(path=str(path), repeated_ids=repeated)
        entries = Entries(data.pack(tmp_path, lambda done, total: None))
        assert entries.ids == ids
        assert len(entries.rejects) == 4 - len(ids)


@pytest.mark.parametrize(
    ("content", "ids", "reason"),
    [
        ("", [], "nothing is in the file"),
        (WATER + "many\n", ["water"], "expected the number of atoms, found 'many'"),
        (WATER + SALT[:-14], ["water"], "the file ends after 1 of 2 atoms"),
        (gzip.compress((WATER * 2).encode(), mtime=0)[:-9], ["water"], "truncated gz"),
        (b"\x1f\x8b" + b"no gz" * 9, [], "damaged"),
    ],
)
def test_a_damaged_file_keeps_what_was_whole_before(
    content: str | bytes, ids: list[str], reason: str, tmp_path: Path
) -> None:
    entries = molecules_of(content, tmp_path)
    assert entries.ids == ids
    assert reason in entries.rejects[-1].reason


def record(smiles: str, title: str) -> str:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    conformer = Chem.Conformer(molecule.GetNumAtoms())
    for atom in range(molecule.GetNumAtoms()):
        conformer.SetAtomPosition(atom, (1.5 * atom, 0.25 * atom**2, -0.5))
    molecule.AddConformer(conformer)
    molecule.SetProp("_Name", title)
    return Chem.MolToMolBlock(molecule, kekulize=False) + "$$$$\n"


def test_sdf_brings_bonds_and_charge(tmp_path: Path) -> None:
    """Order 4 for aromatic bonds; hydrogens stay; a record without a title is named by number."""
    content = record("c1ccccc1", "benzene") + record("CC(=O)[O-]", "")
    entries = molecules_of(content, tmp_path, "some.sdf")
    benzene, acetate = entries.molecules([0, 1])
    assert (benzene.id, acetate.id) == ("benzene", "some:2")
    assert benzene.bonds is not None
    assert sorted(benzene.bonds[:, 2].tolist()) == [1] * 6 + [4] * 6
    assert (benzene.charge, acetate.charge) == (0, -1)
    assert acetate.elements.tolist() == [6, 6, 8, 8, 1, 1, 1]
    np.testing.assert_allclose(acetate.positions[2], [3.0, 1.0, -0.5], atol=1e-4)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda text: text.replace("3D", "2D"), "a drawing"),
        (lambda text: text.replace(" C  ", " Qq ", 1), "RDKit cannot read"),
        (lambda text: text.replace(" C  ", " *  ", 1), "unknown element '*'"),
        (lambda text: text[:200], "ends without M  END"),
        (lambda text: text.replace("    1.5000", "       nan", 1), "RDKit cannot read|finite"),
    ],
)
def test_a_bad_record_is_rejected_alone(broken: object, reason: str, tmp_path: Path) -> None:
    assert callable(broken)
    bad = broken(record("CCO", "bad").removesuffix("$$$$\n")) + "\n$$$$\n"
    content = record("CC", "first") + bad + record("CN", "last")
    entries = molecules_of(content, tmp_path, "some.sdf")
    assert entries.ids == ["first", "last"]
    (reject,) = entries.rejects
    assert (reject.id, reject.source) == ("bad", "some.sdf#2")
    assert any(part in reject.reason for part in reason.split("|"))


def test_folders_and_lists_give_all_their_files(tmp_path: Path) -> None:
    """Through all levels, gz or not, whatever the case of their endings; ids tell files apart."""
    plain = "1\n\nC 0 0 0\n"
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/one.xyz").write_text(plain)
    (tmp_path / "in/deep/one.XYZ.gz").write_bytes(gzip.compress(plain.encode()))
    (tmp_path / "in/notes.md").write_text("no molecule")
    assert packed(tmp_path / "in", tmp_path / "a.h5", "molecules").ids == ["deep/one:1", "one:1"]
    (tmp_path / "list.txt").write_text("in/one.xyz\n\nin/deep\n")
    assert packed(tmp_path / "list.txt", tmp_path / "b.h5", "molecules").ids == ["one:1"]
    with pytest.raises(UserError, match=r"notes.md has no file to read.*\.xyz"):
        packed(tmp_path / "in/notes.md", tmp_path / "c.h5", "molecules")
    with pytest.raises(UserError, match="does not exist"):
        packed(tmp_path / "nowhere", tmp_path / "c.h5", "molecules")
