"""`rawdiff prepare` reads files once; samples come from its copy, and it says what it left out."""

import pickle
import sys
from pathlib import Path

import pytest
from molecule_files import molecules_of, pdb_atom, pdb_residue
from rawdiff_molecules.backbones import Backbones

from rawdiff.assemble import PACKED_FOLDER, packed_or_raw
from rawdiff.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of two chains and a bad one, in the working folder of a user."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "files"
    folder.mkdir()
    for name, length in (("long", 5), ("short", 3)):
        lines = [line for n in range(length) for line in pdb_residue(n + 1)]
        (folder / f"{name}.pdb").write_text("\n".join(lines))
    (folder / "water.pdb").write_text(pdb_atom("O", "HOH", element="O"))
    return folder


def prepare(dataset: Backbones) -> Path:
    return dataset.pack(PACKED_FOLDER, lambda done, total: None)


def prepared(dataset: Backbones) -> Backbones:
    found = packed_or_raw(dataset)
    assert isinstance(found, Backbones)
    return found


def test_files_are_read_by_prepare_alone(folder: Path) -> None:
    dataset = Backbones(path=str(folder), max_length=8)
    with pytest.raises(UserError, match="run `rawdiff prepare`"):
        len(dataset)
    steps: list[tuple[int, int]] = []
    file = dataset.pack(PACKED_FOLDER, lambda done, total: steps.append((done, total)))
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    copy = prepared(dataset)
    assert (len(copy), copy.entries.ids) == (2, ["long", "short"])
    before = file.stat().st_mtime_ns
    assert prepare(dataset) == file
    assert file.stat().st_mtime_ns == before


def test_another_selection_reads_the_same_copy(folder: Path) -> None:
    """Only what was read of the files counts, such as which models."""
    first = prepare(Backbones(path=str(folder), max_length=8))
    assert prepare(Backbones(path=str(folder), min_length=4, max_length=9)) == first
    assert prepare(Backbones(path=str(folder), models="all", max_length=8)) != first


def test_files_that_changed_are_noticed_and_files_that_are_gone_are_not_missed(
    folder: Path,
) -> None:
    dataset = Backbones(path=str(folder), max_length=8)
    prepare(dataset)
    (folder / "new.pdb").write_text("\n".join(pdb_residue(1)))
    with pytest.raises(UserError, match=r"1 differ, such as new\.pdb"):
        packed_or_raw(dataset)
    for file in folder.iterdir():
        file.unlink()
    assert len(prepared(dataset)) == 2


def test_what_was_rejected_is_told_with_its_reason(folder: Path) -> None:
    dataset = Backbones(path=str(folder), max_length=8)
    prepare(dataset)
    findings = {finding.name: finding.text for finding in prepared(dataset).findings()}
    assert findings["chains"] == "2 from 3 files"
    assert findings["rejects"] == "1: 1 no protein in the file"
    assert findings["left out"] == "1 water residues"
    assert findings["residues"] == "3 to 5, median 4, 8 in all"


def test_a_dataset_travels_to_other_processes_without_its_file(folder: Path) -> None:
    dataset = Backbones(path=str(folder), max_length=8)
    prepare(dataset)
    copy = prepared(dataset)
    assert len(copy.entries) == 2
    content = pickle.dumps(copy)
    assert len(content) < 2000
    assert pickle.loads(content).entries.ids == copy.entries.ids


def test_a_packed_file_may_be_given_itself(folder: Path, tmp_path: Path) -> None:
    """Of chains, where chains are wanted."""
    file = prepare(Backbones(path=str(folder), max_length=8))
    given = Backbones(path=str(file), max_length=8)
    assert prepare(given) == file
    assert len(packed_or_raw(given)) == 2
    molecules = molecules_of("1\nwater\nO 0 0 0\n", tmp_path)
    with pytest.raises(UserError, match="holds molecules, not chains"):
        len(Backbones(path=str(molecules.path), max_length=8))


def test_files_of_which_nothing_can_be_read_are_an_error_with_the_reasons(folder: Path) -> None:
    dataset = Backbones(path=str(folder / "water.pdb"), max_length=8)
    prepare(dataset)
    with pytest.raises(UserError, match=r"No chains could be read from .*; rejects: 1: 1 "):
        len(prepared(dataset))


def test_a_missing_library_rejects_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the copy would stay empty after the library was installed."""
    dataset = Backbones(path=str(folder), max_length=8)
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(UserError, match=r"pip install 'rawdiff\[molecules\]'"):
        prepare(dataset)
    monkeypatch.undo()
    monkeypatch.chdir(folder.parent)
    prepare(dataset)
    assert len(prepared(dataset)) == 2
