"""Files of molecules and structures as text, and datasets that show what was read of them."""

from pathlib import Path
from typing import Any

from rawdiff_molecules.files import find_files, read_file, suffixes
from rawdiff_molecules.packing import packing
from rawdiff_molecules.ragged import Entries, Kind
from rawdiff_molecules.reading import Reading

FIRST_MODEL = Reading()


def packed(path: Path, target: Path, kind: Kind, reading: Reading = FIRST_MODEL) -> Entries:
    """The entries of files, from a packed file that is written here."""
    with packing(kind, target) as open_file:
        for file in find_files(path, suffixes(kind, reading.layout)):
            open_file.begin(file.source)
            for found in read_file(file, kind, reading):
                open_file.add(found)
    return Entries(target)


def pdb_atom(
    name: str,
    residue: str = "ALA",
    *,
    chain: str = "A",
    number: str = "1",
    altloc: str = " ",
    code: str = " ",
    at: tuple[float, float, float] = (0, 0, 0),
    occupancy: float = 1.0,
    element: str | None = None,
    record: str = "ATOM",
    serial: str = "1",
) -> str:
    """One line of a PDB file; without `element` it ends before that column."""
    padded = f" {name:3}" if len(name) < 4 else name
    x, y, z = at
    line = (
        f"{record:6}{serial:>5} {padded}{altloc}{residue:>3} {chain}{number:>4}{code}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{0:6.2f}"
    )
    return line if element is None else f"{line:76}{element:>2}"


def pdb_residue(number: int, residue: str = "ALA", **fields: Any) -> list[str]:
    """N, CA, C and O of a residue, 3.8 Angstrom after the one before it; bonds are 1.3 long."""
    x = 3.8 * number
    return [
        pdb_atom(
            name, residue, number=str(number), at=(x + dx, 0.0, 0.0), element=name[0], **fields
        )
        for name, dx in (("N", 0.0), ("CA", 1.2), ("C", 2.5), ("O", 2.6))
    ]


def chains_of(content: str | bytes, folder: Path, name: str = "one.pdb", **options: Any) -> Entries:
    """What is read of one file of this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return packed(path, folder / f"{name}.h5", "chains", Reading(**options))


def molecules_of(content: str | bytes, folder: Path, name: str = "some.xyz") -> Entries:
    """What is read of one file of this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return packed(path, folder / f"{name}.h5", "molecules")
