"""RDKit, imported when it is first needed."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, NamedTuple

from rawdiff.errors import UserError


class Library(NamedTuple):
    """The modules of RDKit that are used here."""

    chem: Any
    bonds: Any
    descriptors: Any
    drawing: Any
    coordinates: Any
    force_fields: Any
    base: Any


@cache
def rdkit() -> Library:
    """UserError if RDKit is not installed."""
    names = (
        "Chem",
        "Chem.rdDetermineBonds",
        "Chem.rdMolDescriptors",
        "Chem.Draw.rdMolDraw2D",
        "Chem.rdDepictor",
        "Chem.rdForceFieldHelpers",
        "rdBase",
    )
    try:
        return Library(*(importlib.import_module(f"rdkit.{name}") for name in names))
    except ImportError as error:
        raise UserError(
            f"Bonds of molecules need the library RDKit ({error}). Run `pip install "
            "rawdiff[molecules]`."
        ) from error
