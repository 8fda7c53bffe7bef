"""Bonds from elements and positions alone, and how they were found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from rawdiff.data.dataset import Array
from rawdiff_molecules.rdkit_library import rdkit

How: TypeAlias = Literal["neutral", "ion", "distances"]
"""Bond orders of a neutral molecule, of one with charge +1 or -1, or single bonds alone."""

CHARGES = (0, 1, -1)
FACTORS = (None, 1.2, 1.15)
"""Atoms are bound that are nearer than so many sums of their covalent radii; None is RDKit's own
"connect the dots". Small cages need the short ones: their atoms nearly touch across the cage."""

MAX_ITERATIONS = 10_000  # of RDKit's search for bond orders: it ends, at the same place anywhere
MAX_CHARGE = 1  # of an atom; RDKit gives a torn carbon -3 where the sum fits
SMALLEST_DISTANCE = 0.3  # Angstrom; no two atoms are nearer
NUM_ELEMENTS = 118


@dataclass(frozen=True)
class Bonded:
    """An RDKit molecule with its positions, or the `reason` why there is none or no bond orders.

    `how` is None where not even distances say which atoms are bound. With "distances" all bonds
    are single and nothing is sanitized.
    """

    molecule: Any | None
    how: How | None
    charge: int = 0
    num_fragments: int = 0
    reason: str = ""
    factor: float | None = None

    @property
    def has_orders(self) -> bool:
        return self.how in ("neutral", "ion")

    @property
    def provenance(self) -> str:
        """How the bonds were found, for files."""
        if self.how is None:
            return "none"
        near = "connect the dots" if self.factor is None else f"covalent radii x {self.factor:g}"
        orders = "all single" if self.how == "distances" else f"orders at charge {self.charge:+d}"
        return f"RDKit rdDetermineBonds: {near}, {orders}"


def find_bonds(elements: Array, positions: Array) -> Bonded:
    """Bonds of atoms with atomic numbers [n] at positions [n, 3] in Angstrom; never raises.

    A molecule of charge 0 is looked for, then one of +1 and -1, that RDKit sanitizes, where all
    atoms have a valence and a charge that they can have, all electrons are paired and no hydrogen
    is bare. Only connect the dots may leave several fragments: a shorter reach would gain its
    valences by cutting bonds.
    """
    lib = rdkit()
    if reason := _obstacle(elements, positions):
        return Bonded(None, None, reason=reason)
    bare, reasons = _atoms(elements, positions), []
    with lib.base.BlockLogs():
        for charge, factor in _attempts():
            molecule = lib.chem.RWMol(bare)
            try:
                num_fragments = _connect(molecule, factor)
                if num_fragments > 1 and factor is not None:
                    continue
                _find_orders(molecule, charge)
            except (ValueError, RuntimeError) as error:
                reasons.append(str(error).strip().split("\n")[0])
                continue
            how: How = "ion" if charge else "neutral"
            return Bonded(molecule.GetMol(), how, charge, num_fragments, factor=factor)
        return _by_distances(bare, reasons)


def _by_distances(bare: Any, reasons: list[str]) -> Bonded:
    """All single bonds; what RDKit said first is why there are no orders."""
    why = f"no bond orders fit: {reasons[0]}" if reasons else "no bond orders fit"
    molecule = rdkit().chem.RWMol(bare)
    try:
        num_fragments = _connect(molecule, None)
    except (ValueError, RuntimeError) as error:
        return Bonded(None, None, reason=f"{why}; no distances either: {error}")
    molecule.UpdatePropertyCache(strict=False)
    return Bonded(molecule.GetMol(), "distances", 0, num_fragments, why)


def _attempts() -> Iterator[tuple[int, float | None]]:
    return ((charge, factor) for charge in CHARGES for factor in FACTORS)


def _obstacle(elements: Array, positions: Array) -> str:
    """Why such atoms are no molecule; empty if they may be one."""
    if not len(elements):
        return "no atoms"
    wrong = [int(z) for z in elements if not 1 <= z <= NUM_ELEMENTS]
    if wrong:
        return f"no element has the atomic number {wrong[0]}"
    if not np.isfinite(positions).all():
        return "an atom has no finite position"
    if len(elements) > 1 and (nearest := _smallest_distance(positions)) < SMALLEST_DISTANCE:
        return f"two atoms are {nearest:.2f} Angstrom apart"
    return ""


def _smallest_distance(positions: Array) -> float:
    points = positions.astype(np.float64)
    between = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return float(between[~np.eye(len(points), dtype=bool)].min())


def _atoms(elements: Array, positions: Array) -> Any:
    """An RDKit molecule without bonds."""
    chem = rdkit().chem
    molecule, conformer = chem.RWMol(), chem.Conformer(len(elements))
    for element in elements:
        molecule.AddAtom(chem.Atom(int(element)))
    conformer.SetPositions(np.ascontiguousarray(positions, dtype=np.float64))
    molecule.AddConformer(conformer)
    return molecule


def _connect(molecule: Any, factor: float | None) -> int:
    """Bind near atoms in place; the number of fragments."""
    lib = rdkit()
    if factor is None:
        lib.bonds.DetermineConnectivity(molecule)
    else:
        lib.bonds.DetermineConnectivity(molecule, useVdw=True, covFactor=factor)
    return len(lib.chem.GetMolFrags(molecule))


def _find_orders(molecule: Any, charge: int) -> None:
    """In place; ValueError or RuntimeError where none fit."""
    lib = rdkit()
    if any(atom.GetAtomicNum() == 1 and not atom.GetDegree() for atom in molecule.GetAtoms()):
        raise ValueError("a hydrogen atom is bound to nothing")
    lib.bonds.DetermineBondOrders(
        molecule, charge=charge, embedChiral=False, maxIterations=MAX_ITERATIONS
    )
    charges = {abs(atom.GetFormalCharge()) for atom in molecule.GetAtoms()}
    if max(charges) > MAX_CHARGE:
        raise ValueError(f"an atom would have the charge {max(charges)}")
    lib.chem.SanitizeMol(molecule)
    if any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        raise ValueError("an atom has unpaired electrons")
    lib.chem.AssignStereochemistryFrom3D(molecule)
