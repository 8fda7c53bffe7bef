"""Generated backbones as PDB and mmCIF files, with a report and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError
from rawdiff.files import write_text
from rawdiff_molecules.backbone_measures import MEASURES, measure
from rawdiff_molecules.geometry import all_atoms, as_backbone, is_backbone
from rawdiff_molecules.peptide import neighbours
from rawdiff_molecules.residues import Residues
from rawdiff_molecules.structure_files import write_structure
from rawdiff_molecules.structure_pictures import draw_backbones

REPORT, TRAJECTORIES = "report.json", "trajectory"


class BackboneWriter(Writer):
    """`000042.cif`, `000042.pdb` and a line on each in `report.json`.

    Residues keep their numbers, insertion codes, chains and names. PDB files are left out, with the
    reason in the report, where a chain does not fit into one.
    """

    num_drawn: ClassVar[int] = 20

    pdb: bool = True
    """Whether PDB files are written, too."""
    unknown: Literal["GLY", "ALA", "UNK"] = Field(default="GLY")
    """Name of residues without one: many programs read only names of amino acids."""

    def write(
        self,
        samples: Array,
        folder: Path,
        *,
        info: DataInfo,
        first_index: int = 0,
        labels: Sequence[int] | None = None,
        place: Array | None = None,
    ) -> list[Path]:
        """Samples [n, 3 A, L] in Angstrom; UserError if they are no such backbones."""
        backbones = to_backbones(samples, info)
        kept = [_residues(i, backbone, place, info) for i, backbone in enumerate(backbones)]
        return write_backbones(
            [backbone[: len(own)] for backbone, own in zip(backbones, kept, strict=True)],
            [self.named(own) for own in kept],
            folder,
            first_index=first_index,
            pdb=self.pdb,
            facts=None if labels is None else [{"label": info.class_names[i]} for i in labels],
        )

    @property
    def shared(self) -> tuple[str, ...]:
        return (REPORT,)

    def join(self, parts: Sequence[Path], folder: Path, *, info: DataInfo) -> None:
        join_reports(parts, folder)

    def write_frames(
        self,
        frames: Array,
        folder: Path,
        *,
        info: DataInfo,
        first_index: int = 0,
        place: Array | None = None,
    ) -> list[Path]:
        """`trajectory/000042.cif` and `.pdb`, in which each frame is a model."""
        (folder / TRAJECTORIES).mkdir(parents=True, exist_ok=True)
        files = []
        for i in range(frames.shape[1]):
            backbones = to_backbones(frames[:, i], info)
            own = self.named(_residues(i, backbones[-1], place, info))
            path = folder / TRAJECTORIES / f"{first_index + i:06d}"
            files += write_structure(path, list(backbones[:, : len(own)]), own, pdb=self.pdb)[0]
        return files

    def named(self, residues: Residues) -> Residues:
        names = np.where(residues.names == "UNK", self.unknown, residues.names)
        return replace(residues, names=names)

    def draw(
        self,
        samples: Array,
        *,
        info: DataInfo,
        labels: Sequence[int] | None = None,
        columns: int = 10,
    ) -> Image.Image:
        backbones = [backbone[: _length(backbone)] for backbone in to_backbones(samples, info)]
        return draw_backbones(backbones, first=0, columns=columns)


def to_backbones(samples: Array, info: DataInfo) -> Array:
    """[n, 3 A, L] to [n, L, 4, 3], NaN for atoms of other kinds. UserError for other samples."""
    if not is_backbone(info):
        raise UserError(
            "Backbones are samples [3 A, residues] of the coordinates of A of the atoms N, CA, C "
            f"and O, but these have the shape {list(samples.shape[1:])}. Write `writer: {{name: "
            "arrays}` under `sample:`."
        )
    return as_backbone(all_atoms(torch.from_numpy(np.asarray(samples)), info)).numpy()


def _length(backbone: Array) -> int:
    """Up to the last residue that has an atom."""
    there = np.flatnonzero(np.isfinite(backbone).all(axis=-1).any(axis=-1))
    return int(there[-1]) + 1 if len(there) else 0


def _residues(i: int, backbone: Array, place: Array | None, info: DataInfo) -> Residues:
    if place is None:
        return Residues.plain(_length(backbone))
    return Residues.read(place[i], info.place_names)


def write_backbones(
    backbones: Sequence[Array],
    residues: Sequence[Residues],
    folder: Path,
    *,
    first_index: int = 0,
    pdb: bool = True,
    facts: Sequence[dict[str, Any]] | None = None,
) -> list[Path]:
    """Backbones [L, 4, 3], each with its own residues, as files, and a report on them.

    `facts` stand there with what is measured of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, lines = [], []
    for i, (backbone, own) in enumerate(zip(backbones, residues, strict=True)):
        written, why = write_structure(folder / f"{first_index + i:06d}", [backbone], own, pdb=pdb)
        line: dict[str, Any] = {"files": [file.name for file in written], **_facts(backbone, own)}
        line |= {} if why is None else {"no PDB file": why}
        lines.append(line | ({} if facts is None else facts[i]))
        files += written
    write_text(folder / REPORT, json.dumps(lines, indent=1))
    return [*files, folder / REPORT]


def join_reports(parts: Sequence[Path], folder: Path) -> None:
    """One report of those on the parts of a set."""
    reports = [json.loads((part / REPORT).read_text()) for part in parts]
    lines = [line for report in reports for line in report]
    write_text(folder / REPORT, json.dumps(lines, indent=1))


def _facts(backbone: Array, residues: Residues) -> dict[str, Any]:
    """What is measured of one backbone, in words and numbers for JSON."""
    there = np.isfinite(backbone).all(axis=-1)
    found: dict[str, Any] = {
        "residues": int(there.any(axis=-1).sum()),
        "chains": sorted({str(chain) for chain in residues.chain_ids}),
        "atoms": int(there.sum()),
    }
    if len(backbone) < 2:
        return found
    index = torch.from_numpy(residues.residue.astype(np.float32))[None]
    chain = torch.from_numpy(residues.chain_numbers.astype(np.float32))[None]
    totals = measure(torch.from_numpy(backbone).double()[None], neighbours(index, chain))[0]
    pairs = zip(MEASURES, totals.tolist(), strict=True)
    return found | {name: round(total / num, 4) for name, (total, num) in pairs if num}
