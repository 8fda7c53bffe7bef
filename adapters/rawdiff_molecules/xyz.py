"""Molecules of XYZ files: one frame after the other, extended XYZ included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from rawdiff_molecules.checking import checked_molecule
from rawdiff_molecules.entry import Molecule
from rawdiff_molecules.ragged import Reject, record_of

PROPERTIES = re.compile(r'Properties="?([^"\s]+)', re.IGNORECASE)


class _Columns(NamedTuple):
    """Where a line of an atom has its element and its x."""

    element: int = 0
    x: int = 1


def read_xyz(lines: Iterable[str], source: str, name: str) -> Iterator[Molecule | Reject]:
    """Every frame. Its id is its comment if that is a single word, else `name` and its number.

    A frame with a wrong atom is rejected alone; after a wrong number of atoms the rest is.
    """
    rest = iter(lines)
    number = 0
    for line in rest:
        if not line.strip():
            continue  # blank lines between frames
        number += 1
        origin = record_of(source, number)
        if not line.strip().isdecimal():
            reason = (
                f"expected the number of atoms, found {line.strip()[:40]!r}; the rest is not read"
            )
            yield Reject("", origin, reason)
            return
        comment = next(rest, "").strip()
        atoms = list(islice(rest, int(line)))
        words = comment.split()
        key = words[0] if len(words) == 1 and "=" not in comment else f"{name}:{number}"
        if len(atoms) < int(line):
            yield Reject(key, origin, f"the file ends after {len(atoms)} of {int(line)} atoms")
        else:
            yield _molecule(key, origin, atoms, _columns(comment))


def _columns(comment: str) -> _Columns:
    """As `Properties=species:S:1:pos:R:3` of extended XYZ says."""
    found = PROPERTIES.search(comment)
    if found is None:
        return _Columns()
    parts = found[1].split(":")
    places, column = {}, 0
    for name, size in zip(parts[::3], parts[2::3], strict=False):
        places[name.lower()] = column
        column += int(size)
    return _Columns(places.get("species", places.get("z", 0)), places.get("pos", 1))


def _molecule(key: str, source: str, atoms: list[str], columns: _Columns) -> Molecule | Reject:
    try:
        table = [line.split() for line in atoms]
        symbols = [words[columns.element] for words in table]
        x = columns.x
        coordinates = [words[x : x + 3] for words in table]
        positions = np.array(coordinates, dtype=np.float64).reshape(len(table), 3)
    except (ValueError, IndexError):
        return Reject(key, source, "an atom's line is not an element and three coordinates")
    return checked_molecule(key, source, symbols, positions)
