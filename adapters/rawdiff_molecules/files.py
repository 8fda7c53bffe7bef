"""Files of molecules or structures: which there are under a path, and what is in each."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias, cast

from rawdiff.errors import UserError
from rawdiff_molecules.entry import Chain, Molecule
from rawdiff_molecules.layout import Layout, read_layout
from rawdiff_molecules.packing import LeftOut
from rawdiff_molecules.ragged import Kind, Reject, Source, record_of
from rawdiff_molecules.reading import Reading
from rawdiff_molecules.sdf import read_sdf
from rawdiff_molecules.structures import TABLES, read_structure
from rawdiff_molecules.xyz import read_xyz

Found: TypeAlias = Molecule | Chain | Reject | LeftOut
Read: TypeAlias = Callable[[Iterable[str], str, str], Iterator[Found]]

READERS: dict[str, Read] = {
    ".xyz": read_xyz,
    ".extxyz": read_xyz,
    ".sdf": read_sdf,
    ".sd": read_sdf,
    ".mol": read_sdf,
}


class File(NamedTuple):
    """`name` is its path below the folder that was given, or its bare name."""

    path: Path
    name: str

    @property
    def suffix(self) -> str:
        """In small letters, without .gz."""
        return _suffix(self.path)

    @property
    def source(self) -> Source:
        return Source(self.name, self.path.stat().st_size)

    @property
    def stem(self) -> str:
        """`name` without its endings: where an id starts."""
        return self.name.removesuffix(".gz")[: -len(self.suffix)]


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def suffixes(kind: Kind, layout: Layout | None) -> tuple[str, ...]:
    """The endings of the names of files that are read."""
    if layout is not None:
        return (".h5", ".hdf5")
    return tuple(READERS if kind == "molecules" else TABLES)


def find_files(path: str | Path, endings: Sequence[str]) -> list[File]:
    """Those with one of the `endings`, in the order of their names; a folder with all its levels.

    A .txt file is a list: one path a line, from its own folder. UserError where there is nothing.
    """
    given = Path(path).expanduser()
    if given.is_dir():
        below = sorted(p for p in given.rglob("*") if _suffix(p) in endings and p.is_file())
        found = [File(p, p.relative_to(given).as_posix()) for p in below]
    elif given.suffix == ".txt" and given.is_file():
        lines = [line.strip() for line in given.read_text().splitlines()]
        found = [f for line in lines if line for f in find_files(given.parent / line, endings)]
    elif not given.is_file():
        raise UserError(f"{given} does not exist. Give `path` a file or a folder.")
    else:
        found = [File(given, given.name)] if _suffix(given) in endings else []
    if not found:
        raise UserError(f"{given} has no file to read: none ends in {', '.join(endings)} (or .gz).")
    return found


def read_file(file: File, kind: Kind, reading: Reading) -> Iterator[Found]:
    """What is in a file; whatever cannot be read, or is empty, is a Reject.

    UserError where the settings do not fit an HDF5 file.
    """
    if reading.layout is not None:
        yield from read_layout(file.path, kind, reading.layout, file.name, file.stem)
        return
    number = 0
    try:
        with open_bytes(file.path) as stream:
            for found in _read(stream, file, reading):
                number += 1
                yield found
    except (OSError, EOFError, zlib.error) as error:
        what = "a truncated gz file" if isinstance(error, EOFError) else f"damaged: {error}"
        yield Reject("", record_of(file.name, number + 1), f"{what}; the rest is not read")
    else:
        if not number:
            yield Reject("", record_of(file.name, 1), "nothing is in the file")


def _read(stream: IO[bytes], file: File, reading: Reading) -> Iterator[Found]:
    if file.suffix in READERS:
        lines = io.TextIOWrapper(stream, encoding="utf-8", errors="replace")
        return READERS[file.suffix](lines, file.name, file.stem)
    return read_structure(stream.read(), file.suffix, file.name, file.stem, reading)


def open_bytes(path: Path) -> IO[bytes]:
    """Unpacked, if it is gz by its first bytes, whatever its name says."""
    with path.open("rb") as file:
        is_gz = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path) if is_gz else path.open("rb"))
