"""Densities back to atoms: peaks, where they lie between voxels, and a least-squares fit of all.

A peak is a voxel that none of its 26 neighbours exceeds. Near an atom the logarithm of its density
is a parabola, so three voxels give its place in closed form; the fit of all atoms at once then
takes away what neighbours add to each other, and finds atoms that had no peak of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rawdiff.data.dataset import Array, DataInfo
from rawdiff_molecules.elements import element_number
from rawdiff_molecules.fit import Atoms, fit, residual
from rawdiff_molecules.lattice import Lattice

NUM_AT_ONCE = 64  # samples whose peaks are fitted together
MAX_ATOMS = 300  # of a sample: one that has more is noise, and costs the square of their number
MAX_VALUE = 10.0  # of a density of atoms there are at most a few times 1
NUM_ROUNDS = 2  # of looking for more atoms in what the fit leaves over
HIGH = 1.2  # of one atom that was fitted to two; alone it would be 1
NEAR_WIDTHS = 2.0  # between such an atom and what it leaves over on its sides


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
    only the higher one is. They lie in the coordinates of `info`. UserError unless it is that of
    densities of atoms.
    """
    lattice = Lattice.of(info)
    numbers = np.array([element_number(symbol) for symbol in lattice.elements], dtype=np.uint8)
    found = []
    for part in torch.split(torch.as_tensor(densities).float(), NUM_AT_ONCE):
        bounded = part.nan_to_num(0.0).clamp(-MAX_VALUE, MAX_VALUE)
        atoms = find_atoms(bounded, lattice, threshold, min_distance)
        found += _unpadded(atoms, numbers)
    middle = np.array(Lattice.middle(info), dtype=np.float32)
    return [replace(atoms, positions=atoms.positions + middle) for atoms in found]


def find_atoms(densities: Tensor, lattice: Lattice, threshold: float, min_distance: float) -> Atoms:
    """Atoms of densities [B, C, X, Y, Z], those of one sample sorted by height.

    Each channel is fitted by itself; only then are channels compared.
    """
    atoms = _apart(_peaks(densities, lattice, threshold), _same_channel, min_distance)
    atoms = fit(atoms, densities, lattice)
    for _ in range(NUM_ROUNDS):
        more = _peaks(residual(atoms, densities, lattice), lattice, threshold)
        more = _apart(more, _same_channel, min_distance)
        if not bool(more.present.any()):
            break
        atoms = atoms.where(~_stand_for_two(atoms, more, lattice))
        atoms = _apart(_together(atoms, more), _same_channel, min_distance)
        atoms = fit(atoms, densities, lattice)
    return _apart(atoms.where(atoms.heights > threshold), _all, min_distance)


def _peaks(densities: Tensor, lattice: Lattice, threshold: float) -> Atoms:
    """Voxels that none of their neighbours exceeds, with their place between the voxels."""
    at = (densities > threshold).nonzero()  # [K, 5]: few of all voxels
    near = _neighbourhoods(densities, at)
    at, near = at[is_peak := near[:, 1, 1, 1] == near.amax((1, 2, 3))], near[is_peak]
    offsets = torch.stack([_offsets(line, lattice) for line in _lines(near, at, lattice)], -1)
    centres = [along[i] for along, i in zip(lattice.centres(at), at.T[2:], strict=True)]
    positions = torch.stack(centres, -1) + offsets * lattice.spacing
    return _padded(len(densities), at[:, 0], positions, near[:, 1, 1, 1], at[:, 1])


def _neighbourhoods(densities: Tensor, at: Tensor) -> Tensor:
    """Values of the 27 voxels around each one [K, 3, 3, 3]; beyond a wall, of the last before."""
    steps = torch.arange(-1, 2, device=at.device)
    x, y, z = (
        (at[:, 2 + axis, None] + steps).clamp(0, densities.shape[2 + axis] - 1) for axis in range(3)
    )
    sample, channel = at[:, 0, None, None, None], at[:, 1, None, None, None]
    return densities[sample, channel, x[:, :, None, None], y[:, None, :, None], z[:, None, None]]


def _lines(near: Tensor, at: Tensor, lattice: Lattice) -> list[Tensor]:
    """Logarithms of three voxels in a row along x, y and z: [K, 3] each.

    At a wall, where there is no third, the known width gives the parabola that it lies on.
    """
    log = near.clamp(min=1e-6).log()
    lines = [log[:, :, 1, 1], log[:, 1, :, 1], log[:, 1, 1, :]]
    curvature = -2 * (lattice.spacing / lattice.width) ** 2  # of one atom alone
    walled = []
    for line, i, num in zip(lines, at.T[2:], lattice.num_voxels, strict=True):
        before, here, after = line.unbind(-1)
        first, last = i == 0, i == num - 1
        before, after = (
            torch.where(first, 2 * here - after + curvature, before),
            torch.where(last, 2 * here - before + curvature, after),
        )
        walled.append(torch.stack((before, here, after), -1))
    return walled


def _offsets(line: Tensor, lattice: Lattice) -> Tensor:
    """From the middle voxel to the top of the parabola through three logarithms, in voxels [K]."""
    before, here, after = line.unbind(-1)
    flattest = -0.5 * (lattice.spacing / lattice.width) ** 2
    bend = (before - 2 * here + after).clamp(max=flattest)
    return ((before - after) / (2 * bend)).clamp(-0.5, 0.5)


def _stand_for_two(atoms: Atoms, more: Atoms, lattice: Lattice) -> Tensor:
    """Atoms [B, A] that are too high, and leave a peak on either side of them over."""
    near = torch.cdist(atoms.positions, more.positions) < NEAR_WIDTHS * lattice.width
    beside = near & more.present[:, None] & (atoms.channel[..., None] == more.channel[:, None])
    return (atoms.heights > HIGH) & (beside.sum(-1) >= 2)


def _padded(num: int, sample: Tensor, positions: Tensor, heights: Tensor, channel: Tensor) -> Atoms:
    """Atoms one after another, by sample, to those of `num` samples beside each other."""
    counts = torch.bincount(sample, minlength=num)
    place = torch.arange(len(sample), device=sample.device) - (counts.cumsum(0) - counts)[sample]
    shape = (num, max(int(counts.max()), 1))
    atoms = Atoms(
        positions.new_zeros(*shape, 3),
        heights.new_zeros(shape),
        channel.new_zeros(shape),
        torch.zeros(shape, dtype=torch.bool, device=sample.device),
    )
    for target, values in zip(atoms.tensors, (positions, heights, channel), strict=False):
        target[sample, place] = values
    atoms.present[sample, place] = True
    return atoms


def _sorted(atoms: Atoms) -> Atoms:
    """The highest first, those that are there before the others."""
    order = atoms.heights.where(atoms.present, -math.inf).argsort(dim=1, descending=True)
    return atoms.take(order[:, :MAX_ATOMS])


def _all(atoms: Atoms) -> Tensor:
    return torch.ones_like(atoms.channel[:, :, None] == atoms.channel[:, None])


def _same_channel(atoms: Atoms) -> Tensor:
    """Which pairs of atoms are of one element: [B, A, A]."""
    return atoms.channel[:, :, None] == atoms.channel[:, None]


def _apart(atoms: Atoms, compared: Callable[[Atoms], Tensor], min_distance: float) -> Atoms:
    """Sorted, without those that lie too near to a higher one that they are compared with.

    They are judged in turn, so that one that is dropped takes no other with it.
    """
    atoms = _sorted(atoms)
    near = torch.cdist(atoms.positions, atoms.positions) < min_distance  # [B, A, A]
    near &= compared(atoms)
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
