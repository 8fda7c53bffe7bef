"""Backbones of real chains, read without the reader that is under test."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np
import torch
from rawdiff_molecules.entry import BACKBONE
from torch import Tensor

BROKEN = 2.5  # Angstrom from C to N: no peptide bond


class RealChain(NamedTuple):
    """A backbone [L, 4, 3] in float64, NaN where missing; `index` [L] has gaps at breaks."""

    id: str
    backbone: Tensor
    index: Tensor


@lru_cache(maxsize=2)
def real_chains(shared: Path, step: int = 1) -> list[RealChain]:
    """Every so many of the 829 chains."""
    files = sorted((shared / "data" / "proteins").glob("*.pdb.gz"))
    return [_read(file) for file in files[::step]]


def _read(file: Path) -> RealChain:
    residues = [residue for chain in gemmi.read_structure(str(file))[0] for residue in chain]
    missing = [np.nan] * 3
    atoms = [[residue.find_atom(name, "*") for name in BACKBONE] for residue in residues]
    points = [[atom.pos.tolist() if atom else missing for atom in row] for row in atoms]
    backbone = torch.tensor(points, dtype=torch.float64)
    to_next = (backbone[1:, 0] - backbone[:-1, 2]).norm(dim=-1)
    numbers = torch.tensor([residue.seqid.num for residue in residues])
    steps = torch.where(to_next < BROKEN, 1, (numbers[1:] - numbers[:-1]).clamp(min=2))
    return RealChain(file.name, backbone, torch.cat([torch.zeros(1), steps.cumsum(0)]).long())


def as_batch(chains: list[RealChain]) -> tuple[Tensor, Tensor]:
    """Samples [n, 12, L] around their centres, and index [n, L]; NaN beyond the end."""
    length = max(len(chain.index) for chain in chains)
    x = torch.full((len(chains), length, 4, 3), torch.nan)
    index = torch.full((len(chains), length), torch.nan)
    for i, chain in enumerate(chains):
        centre = chain.backbone[:, 1].nanmean(dim=0)
        x[i, : len(chain.index)] = (chain.backbone - centre).float()
        index[i, : len(chain.index)] = chain.index.float()
    return x.flatten(2).mT, index
