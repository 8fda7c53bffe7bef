"""The packed file: whole or not there, known by its version, read the same by every process."""

import multiprocessing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from molecule_files import chains_of, molecules_of, pdb_residue
from rawdiff_molecules.entry import Molecule
from rawdiff_molecules.packing import packing
from rawdiff_molecules.ragged import COLUMNS, Entries, Source
from torch.utils.data import DataLoader

from rawdiff.errors import UserError, WrongDataError


def some_molecules(number: int) -> list[Molecule]:
    """Of different sizes, the first of one atom; every other one with bonds."""
    random = np.random.default_rng(0)
    sizes = [1, *random.integers(1, 40, number - 1).tolist()]
    return [
        Molecule(
            id=f"number {i} é",
            source=f"made.xyz#{i + 1}",
            elements=random.integers(1, 100, size).astype(np.uint8),
            positions=random.normal(size=(size, 3)).astype(np.float32),
            charge=i % 3 - 1,
            bonds=random.integers(0, size, (i, 3)).astype(np.int32) if i % 2 else None,
        )
        for i, size in enumerate(sizes)
    ]


def write(molecules: list[Molecule], path: Path) -> Entries:
    with packing("molecules", path) as target:
        target.begin(Source("made.xyz", 0))
        for molecule in molecules:
            target.add(molecule)
    return Entries(path)


def assert_same(found: Molecule, expected: Molecule) -> None:
    for name, value in vars(expected).items():
        own = getattr(found, name)
        if isinstance(value, np.ndarray):
            assert own.dtype == value.dtype
            np.testing.assert_array_equal(own, value)
        else:
            assert own == value


def test_entries_come_back_in_any_order(tmp_path: Path) -> None:
    molecules = some_molecules(50)
    entries = write(molecules, tmp_path / "some.h5")
    order = np.random.default_rng(1).permutation(50).tolist()
    for wanted in (order, [7, 7, 3], [0], [49]):
        for found, i in zip(entries.molecules(wanted), wanted, strict=True):
            assert_same(found, molecules[i])
    assert entries.molecules([]) == []
    assert entries.num_atoms.tolist() == [len(molecule.elements) for molecule in molecules]
    for wrong in ([50], [-1]):
        with pytest.raises(IndexError):
            entries.molecules(wrong)


def test_what_is_done_to_an_entry_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    entries = write(some_molecules(3), tmp_path / "some.h5")
    before = entries.molecules([1])[0].positions.copy()
    entries.molecules([1])[0].positions[:] += 1
    np.testing.assert_array_equal(entries.molecules([1])[0].positions, before)


def test_a_file_that_somebody_compressed_reads_the_same(tmp_path: Path) -> None:
    molecules = some_molecules(20)
    write(molecules, tmp_path / "plain.h5")
    with h5py.File(tmp_path / "plain.h5") as plain, h5py.File(tmp_path / "less.h5", "w") as less:
        less.attrs.update(plain.attrs)

        def copy(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset) and node.size:
                less.create_dataset(name, data=node[()], compression="gzip")
            elif isinstance(node, h5py.Dataset):
                less.create_dataset(name, data=node[()])

        plain.visititems(copy)
    order = [19, 3, 4, 5, 0]
    for found, i in zip(Entries(tmp_path / "less.h5").molecules(order), order, strict=True):
        assert_same(found, molecules[i])


def test_chains_without_their_atoms_have_the_same_backbones(tmp_path: Path) -> None:
    lines = [line for chain in "AB" for n in (1, 2, 5) for line in pdb_residue(n, chain=chain)]
    entries = chains_of("\n".join(lines), tmp_path)
    for whole, bare in zip(
        entries.chains([1, 0]), entries.chains([1, 0], atoms=False), strict=True
    ):
        np.testing.assert_array_equal(whole.backbone, bare.backbone)
        assert whole.index.tolist() == bare.index.tolist()
        assert (len(whole.elements), len(bare.elements)) == (12, 0)
        assert whole.atom_offsets.tolist() == [0, 4, 8, 12]
        assert bare.atom_offsets.tolist() == [0, 0, 0, 0]
    assert entries.num_atoms.tolist() == [12, 12]


class Sizes:
    """A torch data set of what Entries reads."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Any:
        molecule = self.entries.molecules([index])[0]
        return np.append(molecule.positions.sum(axis=0), molecule.elements.sum())


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_four_workers_read_the_same_as_one(method: str, tmp_path: Path) -> None:
    """Forked ones also when their parent has read before."""
    assert method in multiprocessing.get_all_start_methods()
    samples = Sizes(write(some_molecules(200), tmp_path / "some.h5"))
    alone = np.stack([samples[i] for i in range(200)])
    loader: Any = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=4,
        multiprocessing_context=method,
        timeout=60,
    )
    np.testing.assert_array_equal(np.stack([x.numpy() for x in loader]), alone)


def test_a_stopped_pack_leaves_nothing_and_the_next_one_is_whole(tmp_path: Path) -> None:
    def stop() -> None:
        with packing("molecules", tmp_path / "some.h5") as target:
            target.begin(Source("made.xyz", 0))
            target.add(some_molecules(1)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert list(tmp_path.iterdir()) == []
    assert len(write(some_molecules(3), tmp_path / "some.h5")) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["some.h5"]


def test_a_killed_pack_leaves_nothing_that_passes_for_finished(tmp_path: Path) -> None:
    """What it left behind is overwritten by the next one."""
    left = tmp_path / ".some.h5.parts"
    left.mkdir()
    (left / "atoms.elements").write_bytes(b"half")
    (tmp_path / ".some.h5.partial").write_bytes(b"half")
    assert not (tmp_path / "some.h5").exists()
    molecules = some_molecules(3)
    assert_same(write(molecules, tmp_path / "some.h5").molecules([2])[0], molecules[2])
    assert [file.name for file in tmp_path.iterdir()] == ["some.h5"]


def test_other_files_are_told_from_packed_ones(tmp_path: Path) -> None:
    """Of a newer version, of somebody else, cut short, of no HDF5 at all, and not there."""
    write(some_molecules(3), tmp_path / "some.h5")
    content = (tmp_path / "some.h5").read_bytes()
    with h5py.File(tmp_path / "some.h5", "a") as file:
        file.attrs["version"] = 2
    with pytest.raises(WrongDataError, match=r"is of version 2 .* Update rawdiff"):
        len(Entries(tmp_path / "some.h5"))
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("cut.h5", "text.h5", "nowhere.h5"):
        with pytest.raises(UserError, match="rawdiff prepare"):
            len(Entries(tmp_path / name))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(UserError, match=r"data\.layout"):
        len(Entries(tmp_path / "other.h5"))


def test_flat_arrays_are_in_one_piece_so_that_they_can_be_mapped(tmp_path: Path) -> None:
    molecules_of("1\na\nC 0 0 0\n", tmp_path)
    with h5py.File(tmp_path / "some.xyz.h5") as file:
        for name in COLUMNS["molecules"]:
            assert file[name].chunks is None
            assert file[name].size == 0 or file[name].id.get_offset() % 8 == 0
