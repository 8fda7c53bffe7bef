"""The libraries of the extra `molecules`, imported where they are first needed."""

from __future__ import annotations

import importlib
from typing import Any

from rawdiff.errors import UserError


class MissingLibraryError(UserError):
    """A library is not installed; says nothing of the file that was to be read by it."""


def _require(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"This needs `{error.name}`, which is not installed: pip install 'rawdiff[molecules]'"
        ) from error


def require_rdkit() -> Any:
    """The module rdkit.Chem; UserError with what to install where it is not there."""
    return _require("rdkit.Chem")


def require_gemmi() -> Any:
    """The module gemmi; UserError with what to install where it is not there."""
    return _require("gemmi")


def require_pdbx() -> Any:
    """The module biotite.structure.io.pdbx; UserError with what to install where it is absent."""
    return _require("biotite.structure.io.pdbx")


def require_structure() -> Any:
    """The module biotite.structure; UserError with what to install where it is not there."""
    return _require("biotite.structure")
