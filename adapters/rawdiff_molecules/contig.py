"""Which residues of a chain are kept and how many new ones stand between: `10-20/A38-57/12`.

The notation of RFdiffusion (Watson et al. 2023), with author's numbers and insertion codes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from rawdiff.errors import UserError

_NEW = re.compile(r"(\d+)(?:-(\d+))?")
_KEPT = re.compile(r"([A-Za-z]\w{0,2}?)?(-?\d+)([A-Za-z])?(?:-(-?\d+)([A-Za-z])?)?")


@dataclass(frozen=True)
class New:
    """`least` to `most` residues that are drawn."""

    least: int
    most: int


@dataclass(frozen=True)
class Kept:
    """Residues `first` to `last` of a chain of a file, each a number and an insertion code."""

    chain: str
    first: tuple[int, str]
    last: tuple[int, str]

    def __str__(self) -> str:
        first, last = (f"{number}{code.strip()}" for number, code in (self.first, self.last))
        return f"{self.chain}{first}-{last}"


Part: TypeAlias = New | Kept


def parse_contig(text: str) -> list[Part]:
    """The parts of a contig, from the chain's beginning to its end. UserError if it is none."""
    return [_part(part.strip()) for part in text.split("/")]


def _part(text: str) -> Part:
    if new := _NEW.fullmatch(text):
        least, most = int(new[1]), int(new[2] or new[1])
        if least > most:
            raise UserError(f"`{text}` in a contig: {least} residues are more than {most}.")
        return New(least, most)
    kept = _KEPT.fullmatch(text)
    if kept is None or not kept[1]:
        raise UserError(
            f"`{text}` is no part of a contig. Write 12 or 10-20 for new residues, A38-57 for "
            "those of chain A that are kept, and / between the parts."
        )
    first = (int(kept[2]), kept[3] or " ")
    last = (int(kept[4]), kept[5] or " ") if kept[4] else first
    return Kept(kept[1], first, last)
