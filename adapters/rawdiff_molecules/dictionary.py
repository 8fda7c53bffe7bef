"""Small molecules for those who have no data, from the dictionary that comes with biotite:

python -m rawdiff_molecules.dictionary small.sdf --heavy-atoms 9

The wwPDB gives its chemical component dictionary to everybody, free of rights (CC0 1.0).
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff.errors import UserError
from rawdiff.files import write_text
from rawdiff_molecules.bonds import find_bonds
from rawdiff_molecules.elements import element_number
from rawdiff_molecules.optional import require_pdbx
from rawdiff_molecules.rdkit_library import rdkit

ELEMENTS = {"C", "H", "N", "O"}
RELEASED = "REL"


class Component(NamedTuple):
    """An entry of the dictionary: symbols [n] and ideal positions [n, 3] in Angstrom."""

    name: str
    symbols: Array
    positions: Array


def small_molecules(max_heavy_atoms: int) -> Iterator[Any]:
    """RDKit molecules of C, H, N and O, with carbon, all hydrogen and their name in the dictionary.

    Those whose bonds at the ideal positions are one neutral molecule. UserError without biotite or
    RDKit.
    """
    for component in _components():
        num_heavy = int((component.symbols != "H").sum())
        kinds = set(component.symbols.tolist())
        if num_heavy > max_heavy_atoms or not {"C"} <= kinds <= ELEMENTS:
            continue
        numbers = np.array([element_number(symbol) for symbol in component.symbols], np.uint8)
        bonded = find_bonds(numbers, component.positions)
        if bonded.molecule is not None and bonded.how == "neutral" and bonded.num_fragments == 1:
            bonded.molecule.SetProp("_Name", component.name)
            yield bonded.molecule


def _components() -> Iterator[Component]:
    """All that are released and neutral, in the order of the dictionary."""
    require_pdbx()
    ccd = importlib.import_module("biotite.structure.info.ccd").get_ccd()
    heads, atoms = ccd["chem_comp"], ccd["chem_comp_atom"]
    columns = ("id", "pdbx_release_status", "pdbx_formal_charge")
    names, status, charges = (heads[column].as_array(str) for column in columns)
    wanted = set(names[(status == RELEASED) & (charges == "0")].tolist())
    owners, symbols = (atoms[column].as_array(str) for column in ("comp_id", "type_symbol"))
    ideal = [f"pdbx_model_Cartn_{axis}_ideal" for axis in "xyz"]
    positions = np.stack([atoms[one].as_array(float, masked_value=np.nan) for one in ideal], -1)
    starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
    for start, stop in zip(starts, [*starts[1:], len(owners)], strict=True):
        if (name := str(owners[start])) in wanted:
            yield Component(name, symbols[start:stop], positions[start:stop])


def to_sdf(molecules: Iterator[Any]) -> tuple[str, int]:
    """The text of an SDF file, and how many molecules it holds."""
    text = io.StringIO()
    with rdkit().chem.SDWriter(text) as writer:
        for molecule in molecules:
            writer.write(molecule)
        count = writer.NumMols()
    return text.getvalue(), count


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rawdiff_molecules.dictionary", description=__doc__
    )
    parser.add_argument("out", type=Path, help="the SDF file that is written")
    parser.add_argument("--heavy-atoms", type=int, default=9, help="of a molecule, at most")
    args = parser.parse_args(argv)
    try:
        text, count = to_sdf(small_molecules(args.heavy_atoms))
        write_text(args.out, text)
    except (UserError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    print(f"{args.out}: {count:,} molecules of at most {args.heavy_atoms} heavy atoms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
