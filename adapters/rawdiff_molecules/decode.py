"""Densities back to atoms: peaks, where they lie between voxels, and a least-squares fit of all.

A peak is a voxel that none of its 26 neighbours exceeds. Near an atom the logarithm of its density
is a parabola, so three voxels give its place in closed form; the fit of all atoms at once then
takes away what neighbours add to each other, and finds atoms that had no peak of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rawdiff.data.dataset import Array, DataInfo
from rawdiff_molecules.elements import element_number
from rawdiff_molecules.fit import Atoms, fit, residual
from rawdiff_molecules.lattice import Lattice

NUM_AT_ONCE = 64  # samples whose peaks are fitted together
NUM_ROUNDS = 2  # of looking for more atoms in what the fit leaves over


@dataclass(frozen=True)
class Decoded:
    """k atoms found in a density: atomic numbers `elements` uint8 [k], `positions` float32 [k, 3]
    in Angstrom, and `peaks` float32 [k]: their heights, 1 where the density is that of an atom."""

    elements: Array
    positions: Array
    peaks: Array


def decode(
    densities: Tensor | Array,
    info: DataInfo,
    *,
    threshold: float = 0.3,
    min_distance: float = 0.7,
) -> list[Decoded]:
    """The atoms of each of n densities [n, C, X, Y, Z], on whatever device they are.

    Peaks below `threshold` are no atoms; of two within `min_distance` Angstrom, in any channels,
    only the higher one is. UserError unless `info` is that of densities of atoms.
    """
    lattice = Lattice.of(info)
    numbers = np.array([element_number(symbol) for symbol in lattice.elements], dtype=np.uint8)
    found = []
    for part in torch.as_tensor(densities).float().split(NUM_AT_ONCE):
        atoms = find_atoms(part.nan_to_num(0.0), lattice, threshold, min_distance)
        found += _unpadded(atoms, numbers)
    return found


def find_atoms(densities: Tensor, lattice: Lattice, threshold: float, min_distance: float) -> Atoms:
    """Atoms of densities [B, C, X, Y, Z], those of one sample sorted by height."""
    atoms = _apart(_peaks(densities, lattice, threshold), min_distance)
    atoms = fit(atoms, densities, lattice)
    for _ in range(NUM_ROUNDS):
        more = _peaks(residual(atoms, densities, lattice), lattice, threshold)
        more = _apart(more, min_distance)
        if not bool(more.present.any()):
            break
        atoms = _apart(_together(atoms, more), min_distance)
        atoms = fit(atoms, densities, lattice)
    atoms = atoms.where(atoms.heights > threshold)
    return _apart(_sorted(atoms), min_distance)


def expected_counts(densities: Tensor, lattice: Lattice) -> Tensor:
    """How many atoms of each element the integral of a density stands for: [B, C].

    A check of what was decoded: the two agree for densities of whole atoms.
    """
    mass = (math.sqrt(math.pi) * lattice.width / lattice.spacing) ** 3
    return densities.flatten(2).sum(-1) / mass


def _peaks(densities: Tensor, lattice: Lattice, threshold: float) -> Atoms:
    """Voxels that none of their neighbours exceeds, with their place between the voxels."""
    highest = F.max_pool3d(densities, 3, stride=1, padding=1)
    is_peak = (densities == highest) & (densities > threshold)
    num = max(int(is_peak.flatten(1).sum(1).max()), 1)
    heights, flat = torch.where(is_peak, densities, 0.0).flatten(1).topk(num)
    channel, *index = torch.unravel_index(flat, densities.shape[1:])
    sample = torch.arange(len(densities), device=densities.device)[:, None]
    log = densities.clamp(min=1e-6).log()
    positions = []
    for axis, centres in enumerate(lattice.centres(densities)):
        here = centres[index[axis]]
        offset = _offset(log, sample, channel, index, axis, lattice)
        positions.append(here + offset * lattice.spacing)
    return Atoms(torch.stack(positions, -1), heights, channel, heights > 0)


def _offset(
    log: Tensor,
    sample: Tensor,
    channel: Tensor,
    index: list[Tensor],
    axis: int,
    lattice: Lattice,
) -> Tensor:
    """From the voxel to the top of the parabola through three logarithms, in voxels [B, A].

    At a wall, where there is no third, the known width gives the parabola's curvature.
    """
    last = log.shape[2 + axis] - 1

    def at(step: int) -> Tensor:
        moved = [*index]
        moved[axis] = (index[axis] + step).clamp(0, last)
        return log[sample, channel, moved[0], moved[1], moved[2]]

    before, here, after = at(-1), at(0), at(1)
    curvature = -2 * (lattice.spacing / lattice.width) ** 2  # of one atom alone
    before = torch.where(index[axis] == 0, 2 * here - after + curvature, before)
    after = torch.where(index[axis] == last, 2 * here - before + curvature, after)
    bend = (before - 2 * here + after).clamp(max=curvature / 4)
    return ((before - after) / (2 * bend)).clamp(-0.5, 0.5)


def _sorted(atoms: Atoms) -> Atoms:
    """The highest first, those that are there before the others."""
    order = atoms.heights.where(atoms.present, -math.inf).argsort(dim=1, descending=True)
    return atoms.take(order)


def _apart(atoms: Atoms, min_distance: float) -> Atoms:
    """Without the atoms that lie too near to a higher one of the same sample.

    Sorted atoms are judged in turn, so that one that is dropped takes no other with it.
    """
    atoms = _sorted(atoms)
    near = torch.cdist(atoms.positions, atoms.positions) < min_distance  # [B, A, A]
    kept = atoms.present.clone()
    for i in range(1, kept.shape[1]):
        kept[:, i] &= ~(near[:, i, :i] & kept[:, :i]).any(1)
    return _sorted(atoms.where(kept))


def _together(atoms: Atoms, more: Atoms) -> Atoms:
    return Atoms(*(torch.cat(pair, 1) for pair in zip(atoms.tensors, more.tensors, strict=True)))


def _unpadded(atoms: Atoms, numbers: Array) -> list[Decoded]:
    positions, heights, channel, present = (tensor.cpu().numpy() for tensor in atoms.tensors)
    return [
        Decoded(numbers[channel[i, there]], positions[i, there], heights[i, there])
        for i, there in enumerate(present)
    ]
