"""A scaffold around parts of a protein that stay where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, model_validator

from rawdiff import philox
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.template import RealSamples, Template, Wanted
from rawdiff.errors import UserError
from rawdiff_molecules.chain_template import atoms_of, whole_chain
from rawdiff_molecules.contig import Kept, New, Part, parse_contig
from rawdiff_molecules.entry import BACKBONE, Chain
from rawdiff_molecules.files import find_files, read_file, suffixes
from rawdiff_molecules.reading import Reading
from rawdiff_molecules.residues import Residues

NEW = -1  # instead of the row of a residue that is known


class MotifTemplate(Template):
    """Parts of a chain that stay as they are while the rest is drawn.

    The author's numbers are kept, new residues get free ones.
    """

    path: Path
    """The file of the chain (PDB, mmCIF)."""
    contig: str | None = None
    """`10-20/A38-57/12` puts 10 to 20 new residues before A38 to A57 and 12 behind them."""
    keep: str | None = None
    """`A38-57` draws all other residues of that chain anew; an empty text all of them, for a
    `sample.start` above 0."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the numbers of new residues, where `contig` leaves a choice. [-]"""

    @model_validator(mode="after")
    def _agree(self) -> MotifTemplate:
        if (self.contig is None) == (self.keep is None):
            raise ValueError("give one of `contig` and `keep`")
        return self

    def wanted(self, index: int, info: DataInfo, real: Callable[[], RealSamples]) -> Wanted:
        chain = self._chain
        rows, kept = self._laid_out(index)
        numbered = _numbered(chain, rows)
        names = np.where(kept, numbered.names, "UNK")  # what is drawn has no sequence
        wanted = whole_chain(replace(numbered, names=names), info)
        atoms = [BACKBONE.index(atom) for atom in atoms_of(info)]
        x = np.full(info.shape, np.nan, dtype=np.float32)
        known = chain.backbone[rows][:, atoms]
        known[rows == NEW] = np.nan
        x[:, : len(rows)] = known.reshape(len(rows), -1).T
        keep = np.zeros(info.shape, dtype=bool)
        keep[:, : len(rows)] = kept & ~np.isnan(x[:, : len(rows)])
        return Wanted(x, keep, wanted.there, wanted.place, scalars=wanted.scalars)

    def _laid_out(self, index: int) -> tuple[Array, Array]:
        """Of each residue of sample `index` its row in the chain (or NEW), and whether it stays."""
        if self.contig is None:
            rows = np.arange(len(self._chain.numbers))
            stays = [row for part in self._parts for row in self._rows(part)]
            return rows, np.isin(rows, stays)
        found = [self._drawn(number, part, index) for number, part in enumerate(self._parts)]
        rows = np.concatenate(found)
        return rows, rows != NEW

    def _drawn(self, number: int, part: Part, index: int) -> Array:
        if isinstance(part, Kept):
            return self._rows(part)
        u = philox.uniform(self.seed, philox.Stream.DATA, torch.tensor([index]), number + 1)
        more = int(float(u[0, number]) * (part.most - part.least + 1))
        return np.full(part.least + more, NEW)

    def _rows(self, part: Part) -> Array:
        """The chain's residues from the first to the last of a part."""
        if isinstance(part, New):
            raise UserError(f"`keep` names residues, such as A38-57; found {part.least}.")
        chain = self._chain
        labels = list(zip(chain.numbers.tolist(), map(str, chain.insertion_codes), strict=True))
        for end in (part.first, part.last):
            if end not in labels:
                raise UserError(
                    f"{self.path} has no residue {part.chain}{end[0]}{end[1].strip()} for {part}: "
                    f"chain {part.chain} goes from {labels[0][0]} to {labels[-1][0]}, with "
                    f"{_gaps(chain)}."
                )
        first, last = labels.index(part.first), labels.index(part.last)
        if last < first:
            raise UserError(f"{part}: the last residue stands before the first.")
        return np.arange(first, last + 1)

    @cached_property
    def _parts(self) -> list[Part]:
        if self.contig is not None:
            return parse_contig(self.contig)
        return [
            part for text in (self.keep or "").split(",") if text for part in parse_contig(text)
        ]

    @cached_property
    def _chain(self) -> Chain:
        """The one chain of the file that is meant."""
        wanted = {part.chain for part in self._parts if isinstance(part, Kept)}
        file = find_files(self.path, suffixes("chains", None))[0]
        entries = read_file(file, "chains", Reading())
        found = [entry for entry in entries if isinstance(entry, Chain)]
        by_id = {str(chain.chain_ids[0]).strip(): chain for chain in found}
        if not wanted and len(by_id) == 1:
            return found[0]
        if len(wanted) != 1 or not wanted <= by_id.keys():
            raise UserError(
                f"{self.path} has the chains {', '.join(by_id) or 'none'}; a motif is of one of "
                f"them, found {', '.join(sorted(wanted)) or 'none'}."
            )
        return by_id[wanted.pop()]


def _gaps(chain: Chain) -> str:
    missing = int((np.diff(chain.index) - 1).sum())
    return f"{missing} missing between" if missing else "none missing between"


def _numbered(chain: Chain, rows: Array) -> Residues:
    """Known residues as in the file; new ones with free numbers, without gaps where they fit."""
    source, count = Residues.of(chain), len(rows)
    known = rows != NEW
    numbers = np.where(known, source.numbers[rows], 0)
    steps = np.ones(count, dtype=np.int64)
    inside = known[1:] & known[:-1] & (np.diff(rows) == 1)
    steps[1:][inside] = (chain.index[rows[1:]] - chain.index[rows[:-1]])[inside]
    for start, stop in _runs(~known):
        numbers[start:stop] = _free(numbers, known, start, stop)
        known[start:stop] = True
    new = rows == NEW
    return Residues(
        residue=np.cumsum(steps) - 1,
        numbers=numbers,
        insertion_codes=np.where(new, " ", source.insertion_codes[rows]),
        chain_ids=np.full(count, source.chain_ids[0]),
        names=np.where(new, "UNK", source.names[rows]),
    )


def _runs(flags: Array) -> Iterator[tuple[int, int]]:
    """Start and end of each stretch of True."""
    for flag, group in groupby(range(len(flags)), lambda i: bool(flags[i])):
        stretch = list(group)
        if flag:
            yield stretch[0], stretch[-1] + 1


def _free(numbers: Array, taken: Array, start: int, stop: int) -> Array:
    """Numbers for the new residues `start` to `stop`: on from their neighbours, if these leave
    room, else above all others."""
    count = np.arange(stop - start)
    if start > 0 and (stop == len(numbers) or numbers[start - 1] + len(count) < numbers[stop]):
        wanted = numbers[start - 1] + 1 + count
    elif start == 0 and stop < len(numbers):
        wanted = numbers[stop] - len(count) + count
    else:
        wanted = numbers[taken].max(initial=0) + 1 + count
    if np.isin(wanted, numbers[taken]).any():
        wanted = numbers[taken].max() + 1 + count
    return wanted
