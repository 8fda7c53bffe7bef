"""The atoms of proteins around molecules, to a packed file of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff.errors import UserError
from rawdiff_molecules.entry import Molecule
from rawdiff_molecules.files import File
from rawdiff_molecules.packing import packing
from rawdiff_molecules.pocket import read_protein
from rawdiff_molecules.ragged import Entries, Reject, record_of

NUM_AT_ONCE = 4096  # molecules
NO_FILE = "without a structure file of their name"


class Proteins:
    """Structure files by the names of the molecules that they are for. UserError for two of one."""

    def __init__(self, files: Sequence[File]) -> None:
        self._files: dict[str, File] = {}
        for file in files:
            other = self._files.setdefault(file.stem, file)
            if other is not file:
                raise UserError(
                    f"{other.path} and {file.path} are both the pocket of {file.stem}. Keep one."
                )

    def of(self, molecule: Molecule) -> File | None:
        """That of its id, else of the name of its file: `1abc.sdf` and `1abc.pdb`.

        Poses `X#2`, `X#3` of a molecule X share its protein.
        """
        file = molecule.source.rpartition("#")[0].removesuffix(".gz")
        names = (molecule.id, molecule.id.rpartition("#")[0], file.removesuffix(Path(file).suffix))
        return next((self._files[name] for name in names if name in self._files), None)

    def of_all(self, entries: Entries) -> Iterator[tuple[Molecule, File | None]]:
        """Each molecule with its own."""
        for start in range(0, len(entries), NUM_AT_ONCE):
            rows = range(start, min(start + NUM_AT_ONCE, len(entries)))
            yield from ((molecule, self.of(molecule)) for molecule in entries.molecules(rows))


def pack_pockets(
    entries: Entries,
    proteins: Proteins,
    path: Path,
    reach: float,
    progress: Callable[[int, int], None],
) -> None:
    """For each molecule the heavy atoms within `reach` Angstrom of its middle, under its id.

    A molecule without any is a reject, with its reason. A call that was stopped starts anew.
    """
    with packing("molecules", path) as target:
        last: File | None = None
        protein: tuple[Array, Array] | str = ""
        for number, (molecule, file) in enumerate(proteins.of_all(entries)):
            progress(number, len(entries))
            if file is None:
                target.add(Reject(molecule.id, molecule.source, NO_FILE))
                continue
            if file != last:
                target.begin(file.source)
                last, protein = file, _protein(file)  # poses in one protein follow each other
            target.add(_around(molecule, protein, record_of(file.name, 1), reach))
        progress(len(entries), len(entries))


def _around(
    molecule: Molecule, protein: tuple[Array, Array] | str, source: str, reach: float
) -> Molecule | Reject:
    if isinstance(protein, str):
        return Reject(molecule.id, source, protein)
    elements, positions = protein
    middle = molecule.positions.mean(0, dtype=np.float64)
    near = np.linalg.norm(positions - middle, axis=-1) <= reach
    if not near.any():
        return Reject(molecule.id, source, f"with no atom of the protein within {reach:g} Angstrom")
    return Molecule(molecule.id, source, elements[near], positions[near].astype(np.float32))


def _protein(file: File) -> tuple[Array, Array] | str:
    """Elements and positions of its heavy atoms; or why there are none."""
    try:
        return read_protein(file)
    except UserError as error:
        return str(error)
