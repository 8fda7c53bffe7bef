"""The modules of RDKit that are used here, imported when they are first needed."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, NamedTuple

from rawdiff_molecules.optional import require_rdkit


class Library(NamedTuple):
    """Modules of RDKit by what they are for."""

    chem: Any
    base: Any
    bonds: Any
    coordinates: Any
    descriptors: Any
    force_fields: Any


@cache
def rdkit() -> Library:
    """UserError if RDKit is not installed."""
    chem = require_rdkit()
    names = (
        "rdBase",
        "Chem.rdDetermineBonds",
        "Chem.rdDepictor",
        "Chem.rdMolDescriptors",
        "Chem.rdForceFieldHelpers",
    )
    return Library(chem, *(importlib.import_module(f"rdkit.{name}") for name in names))
