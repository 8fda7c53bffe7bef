"""Molecules whose bonds everybody knows, at positions that a force field gives them."""

from collections.abc import Sequence

import numpy as np
import torch
from rawdiff_molecules.features import Positioned
from rawdiff_molecules.lattice import Lattice, voxelize
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from torch import Tensor

from rawdiff.adapter import GridAdapter
from rawdiff.data.dataset import DataInfo
from rawdiff.evaluate.evaluator import Basis

LATTICE = Lattice(num_voxels=(24, 24, 24), spacing=0.4, radius=0.5, elements=("C", "H", "N", "O"))
NUMBERS = np.array([6, 1, 7, 8])  # of the channels

INFO = DataInfo(
    shape=LATTICE.shape,
    channels=LATTICE.elements,
    coordinates=LATTICE.coordinates,
    meaning=LATTICE.meaning,
    stored_shape=(29, 4),
    writer="molecules",
    evaluators=("molecules",),
)


def known(smiles: str) -> Positioned:
    """With all its hydrogen, centred; the same at every call."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(molecule, randomSeed=1) == 0
    rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=2000)
    elements = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], dtype=np.uint8)
    positions = molecule.GetConformer().GetPositions()
    return Positioned(elements, (positions - positions.mean(0)).astype(np.float32))


def without(molecule: Positioned, atom: int) -> Positioned:
    return Positioned(*(np.delete(values, atom, axis=0) for values in molecule))


def noisy(molecules: Sequence[Positioned], spread: float) -> list[Positioned]:
    """Moved by normal noise of this spread in Angstrom, the same at every call."""
    rng = np.random.default_rng(0)
    return [
        Positioned(one.elements, one.positions + spread * rng.standard_normal(one.positions.shape))
        for one in molecules
    ]


def densities(molecules: Sequence[Positioned]) -> Tensor:
    """[n, C, X, Y, Z] on LATTICE."""
    atoms = torch.full((len(molecules), 29, 4), torch.nan)
    for row, (elements, positions) in zip(atoms, molecules, strict=True):
        channels = np.argmax(elements[:, None] == NUMBERS, axis=1)
        row[: len(elements)] = torch.from_numpy(np.column_stack([positions, channels]))
    return voxelize(atoms, LATTICE)


def basis() -> Basis:
    adapter = GridAdapter(patch_size=(8, 8, 8), axis_names=("x", "y", "z"))
    return Basis(INFO, adapter, torch.zeros(4), torch.ones(4))
