"""What is said of each residue beside its atoms, as numbers that travel with a sample.

The rows of a sample's `place`: numbers in float32, which hold whole ones exactly up to 2^24.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff.errors import UserError
from rawdiff_molecules.entry import Chain

NAMES = (
    "ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE",
    "LEU", "LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL",
)  # fmt: skip
UNKNOWN = len(NAMES)
PLACE_NAMES = ("residue", "number", "insertion", "chain_id", "name")
"""Rows of `place`: where it stands along its chain, and what a file says of it."""
LONGEST_CHAIN_ID = 3


@dataclass(frozen=True)
class Residues:
    """L residues: where each stands along its chain (a gap where some are missing), the author's
    number and insertion code (" " for none), the chain's id, and the name ("UNK" if unknown)."""

    residue: Array
    numbers: Array
    insertion_codes: Array
    chain_ids: Array
    names: Array

    @classmethod
    def of(cls, chain: Chain, part: slice = slice(None)) -> Residues:
        return cls(
            chain.index[part],
            chain.numbers[part],
            chain.insertion_codes[part],
            chain.chain_ids[part],
            chain.names[part],
        )

    @classmethod
    def plain(cls, length: int) -> Residues:
        """Of a chain A without gaps, numbered from 1, of unknown names."""
        numbers = np.arange(1, length + 1)
        return cls(
            numbers, numbers, np.full(length, " "), np.full(length, "A"), np.full(length, "UNK")
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def chain_numbers(self) -> Array:
        """0, 1, … for one chain after another."""
        new = self.chain_ids[1:] != self.chain_ids[:-1]
        return np.concatenate([[0], np.cumsum(new)]) if len(self) else np.zeros(0, dtype=int)

    def place(self, length: int, *, chains: bool = False) -> Array:
        """Rows of PLACE_NAMES, with `chains` one of chain numbers before: [A, length] float32.

        NaN beyond the last residue; `residue` begins at 0 in each sample.
        """
        index = np.asarray(self.residue, dtype=np.int64)
        rows = [
            index - index[:1],
            self.numbers,
            [ord(str(code) or " ") for code in self.insertion_codes],
            [_code(str(chain)) for chain in self.chain_ids],
            [NAMES.index(name) if name in NAMES else UNKNOWN for name in map(str, self.names)],
        ]
        if chains:
            rows.insert(1, self.chain_numbers)
        place = np.full((len(rows), length), np.nan, dtype=np.float32)
        place[:, : len(self)] = np.asarray(rows, dtype=np.float32)
        return place

    @classmethod
    def read(cls, place: Array, names: tuple[str, ...]) -> Residues:
        """Of one sample's `place` [A, L], whose rows have these names."""
        rows = dict(zip(names, place, strict=True))
        there = ~np.isnan(rows["residue"])
        numbers = {name: row[there].astype(np.int64) for name, row in rows.items()}
        return cls(
            residue=numbers["residue"],
            numbers=numbers["number"],
            insertion_codes=np.array([chr(code) for code in numbers["insertion"]], dtype="U1"),
            chain_ids=np.array([_text(code) for code in numbers["chain_id"]], dtype="U3"),
            names=np.array([(*NAMES, "UNK")[code] for code in numbers["name"]], dtype="U3"),
        )


def place_names(*, chains: bool) -> tuple[str, ...]:
    return ("residue", "chain", *PLACE_NAMES[1:]) if chains else PLACE_NAMES


def fits_chain_id(text: str) -> bool:
    """Whether a sample can carry it: three letters of ASCII fill float32's exact numbers."""
    return len(text) <= LONGEST_CHAIN_ID and text.isascii()


def _code(text: str) -> int:
    """A chain's id as one number."""
    if not fits_chain_id(text):
        raise UserError(
            f"The chain id {text!r} is longer than {LONGEST_CHAIN_ID} letters, which no sample can "
            "carry. Rename the chain."
        )
    return sum(ord(letter) << 7 * i for i, letter in enumerate(text))


def _text(code: int) -> str:
    return "".join(chr(code >> 7 * i & 127) for i in range(LONGEST_CHAIN_ID)).rstrip("\0")
