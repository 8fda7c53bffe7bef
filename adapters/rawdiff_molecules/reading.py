"""How files are read where there is a choice."""

from __future__ import annotations

from typing import Literal, NamedTuple

from rawdiff_molecules.layout import Layout


class Reading(NamedTuple):
    """Which models of a structure are read, whether each chain is an entry or all of a model are
    one, and how the arrays of an HDF5 file are to be read.
    """

    models: Literal["first", "all"] = "first"
    chains: Literal["split", "together"] = "split"
    layout: Layout | None = None
