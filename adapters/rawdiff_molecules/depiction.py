"""Molecules as drawings of their bonds."""

from __future__ import annotations

import importlib
import io
import textwrap
from collections.abc import Sequence
from typing import Any

from PIL import Image

from rawdiff import picture
from rawdiff_molecules.bonds import Bonded
from rawdiff_molecules.rdkit_library import rdkit

SIZE = 160  # pixels
CHARACTERS, LINES = 24, 7  # that fit on a tile


def draw_molecules(molecules: Sequence[Bonded], columns: int) -> Image.Image:
    """A drawing of each under its formula, or on a grey tile why it has no bond orders."""
    tiles = [(_title(bonded), _tile(bonded)) for bonded in molecules]
    return picture.draw_board([tiles[i : i + columns] for i in range(0, len(tiles), columns)])


def formula(bonded: Bonded) -> str:
    """Such as C6H6; empty without a molecule."""
    if bonded.molecule is None:
        return ""
    return str(rdkit().descriptors.CalcMolFormula(bonded.molecule))


def _title(bonded: Bonded) -> str:
    pieces = f" in {bonded.num_fragments}" if bonded.num_fragments > 1 else ""
    return f"{formula(bonded)}{pieces}" or "-"


def _tile(bonded: Bonded) -> Image.Image | str:
    if not bonded.has_orders:
        return "\n".join(textwrap.wrap(bonded.reason, CHARACTERS, max_lines=LINES))
    try:
        return _drawing(bonded.molecule)
    except ImportError:  # some systems lack libraries that RDKit draws with
        return "RDKit cannot draw here"


def _drawing(molecule: Any) -> Image.Image:
    draw = importlib.import_module("rdkit.Chem.Draw.rdMolDraw2D")
    with rdkit().base.BlockLogs():
        flat = rdkit().chem.RemoveHs(molecule)
        rdkit().coordinates.Compute2DCoords(flat)
        canvas = draw.MolDraw2DCairo(SIZE, SIZE)
        draw.PrepareAndDrawMolecule(canvas, flat)
    canvas.FinishDrawing()
    return Image.open(io.BytesIO(canvas.GetDrawingText())).convert("RGB")
