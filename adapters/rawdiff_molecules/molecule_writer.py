"""Generated molecules as an SDF file, with a report of what became of each sample."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from rawdiff import picture
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.writer import Writer
from rawdiff.errors import UserError
from rawdiff.files import atomic, write_text
from rawdiff_molecules.bonds import Bonded, find_bonds
from rawdiff_molecules.decode import Decoded, decode
from rawdiff_molecules.depiction import draw_molecules, formula
from rawdiff_molecules.elements import SYMBOLS
from rawdiff_molecules.features import smiles
from rawdiff_molecules.map_writer import MapWriter
from rawdiff_molecules.rdkit_library import rdkit
from rawdiff_molecules.stability import stable_atoms

SDF_FILE, REPORT_FILE = "molecules.sdf", "report.json"
FAILED_FOLDER, MAPS_FOLDER, TRAJECTORIES = "failed", "maps", "trajectory"


class Generated(NamedTuple):
    """What a sample of this number became."""

    number: int
    atoms: Decoded
    bonded: Bonded

    @property
    def name(self) -> str:
        return f"{self.number:06d}"


class MoleculeWriter(Writer):
    """`molecules.sdf`, `failed/000042.xyz` for atoms without bond orders, and `report.json`.

    There is no SDF file where no sample has bond orders.

    The report has one entry for each sample: formula, SMILES, how bonds were found, fragments,
    and what failed and why. In the SDF each atom has the height of its `peak` in the density.
    With `sample.num_frames` the way to each is in `trajectory`.
    """

    maps: bool = False
    """Writes the densities, too, as `maps/000042.mrc`."""

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
        """UserError unless samples are densities of atoms."""
        found = _generated(samples, info, first_index)
        folder.mkdir(parents=True, exist_ok=True)
        sdf = folder / SDF_FILE
        if records := [sdf_record(one) for one in found if one.bonded.has_orders]:
            write_text(sdf, "".join(records))
        failed = [_write_xyz(one, folder) for one in found if _atoms_alone(one)]
        report = folder / REPORT_FILE
        write_text(report, _report([_entry(one) for one in found]))
        paths = [*([sdf] if records else []), *failed, report]
        if self.maps:
            paths += MapWriter().write(
                samples, folder / MAPS_FOLDER, info=info, first_index=first_index
            )
        return paths

    @property
    def shared(self) -> tuple[str, ...]:
        return (SDF_FILE, REPORT_FILE)

    def join(self, parts: Sequence[Path], folder: Path, *, info: DataInfo) -> None:
        """Records one after the other, and one report with the counts of all."""
        if files := [path for part in parts if (path := part / SDF_FILE).exists()]:
            with atomic(folder / SDF_FILE) as whole:
                for path in files:
                    whole.write(path.read_bytes())
        reports = [json.loads((part / REPORT_FILE).read_text()) for part in parts]
        entries = [entry for report in reports for entry in report["samples"]]
        write_text(folder / REPORT_FILE, _report(entries))

    def write_frames(
        self,
        frames: Array,
        folder: Path,
        *,
        info: DataInfo,
        first_index: int = 0,
        place: Array | None = None,
    ) -> list[Path]:
        """`trajectory/000042.xyz`: the atoms of each stage as a frame, without bonds."""
        decoded = [decode(stage, info) for stage in frames]
        files = []
        for i in range(frames.shape[1]):
            number = f"{first_index + i:06d}"
            texts = [
                _xyz_frame(in_order(stage[i]), f"{number} stage {k} of {len(decoded)}")
                for k, stage in enumerate(decoded, start=1)
            ]
            files.append(folder / TRAJECTORIES / f"{number}.xyz")
            write_text(files[-1], "".join(texts))
        return files

    def draw(
        self,
        samples: Array,
        *,
        info: DataInfo,
        labels: Sequence[int] | None = None,
        columns: int = 10,
    ) -> Image.Image:
        """Drawings of bonds; without RDKit slices of the densities."""
        try:
            rdkit()
        except UserError:
            return super().draw(samples, info=info, labels=labels, columns=columns)
        return draw_molecules([one.bonded for one in _generated(samples, info, 0)], columns)

    def draw_noisy_stages(
        self, frames: Array, *, info: DataInfo, columns: int = 10
    ) -> list[Image.Image]:
        """Slices of the densities: noise has hundreds of peaks, and atoms nowhere."""
        like = frames[-1]
        return [picture.draw_samples(z, info, columns=columns, like=like) for z in frames]


def _generated(samples: Array, info: DataInfo, first_index: int) -> list[Generated]:
    return [
        Generated(first_index + i, atoms, find_bonds(atoms.elements, atoms.positions))
        for i, atoms in enumerate(map(in_order, decode(samples, info)))
    ]


def in_order(atoms: Decoded) -> Decoded:
    """Heavy elements first, then along z; the same however many samples were decoded at once."""
    order = np.lexsort([atoms.positions[:, 2], -atoms.elements.astype(np.int64)])
    return Decoded(atoms.elements[order], atoms.positions[order], atoms.peaks[order])


def sdf_record(one: Generated) -> str:
    """A record with the sample's number as its title, and all that is known of it."""
    chem, molecule = rdkit().chem, rdkit().chem.Mol(one.bonded.molecule)
    molecule.SetProp("_Name", one.name)
    for atom, peak in zip(molecule.GetAtoms(), one.atoms.peaks, strict=True):
        atom.SetDoubleProp("peak", round(float(peak), 3))
    chem.CreateAtomDoublePropertyList(molecule, "peak")
    for name, value in _entry(one).items():
        if value != "":
            molecule.SetProp(name, str(value))
    text = io.StringIO()
    with rdkit().base.BlockLogs(), chem.SDWriter(text) as writer:
        writer.write(molecule)
    return text.getvalue()


def _atoms_alone(one: Generated) -> bool:
    return not one.bonded.has_orders and len(one.atoms.elements) > 0


def _write_xyz(one: Generated, folder: Path) -> Path:
    """One frame; its comment is the sample's number and what failed."""
    path = folder / FAILED_FOLDER / f"{one.name}.xyz"
    write_text(path, _xyz_frame(one.atoms, f"{one.name} {one.bonded.reason}"))
    return path


def _xyz_frame(atoms: Decoded, comment: str) -> str:
    lines = [str(len(atoms.elements)), comment]
    for element, position in zip(atoms.elements, atoms.positions, strict=True):
        lines.append(f"{SYMBOLS[element]} " + " ".join(f"{x:.6f}" for x in position))
    return "\n".join(lines) + "\n"


def _entry(one: Generated) -> dict[str, Any]:
    """Plain data for JSON."""
    bonded, peaks = one.bonded, one.atoms.peaks
    return {
        "sample": one.number,
        "atoms": len(one.atoms.elements),
        "formula": formula(bonded),
        "smiles": smiles(bonded.molecule, stereo=True) if one.bonded.has_orders else "",
        "how": bonded.how or "none",
        "bonds": bonded.provenance,
        "charge": bonded.charge,
        "fragments": bonded.num_fragments,
        "stable_atoms": int(np.sum(stable_atoms(bonded, ions=True))),
        "lowest_peak": round(float(peaks.min()), 3) if len(peaks) else "",
        "reason": bonded.reason,
    }


def _report(entries: list[dict[str, Any]]) -> str:
    counts = Counter(entry["how"] for entry in entries)
    whole = {
        "counts": {
            "samples": len(entries),
            "one_neutral_molecule": sum(
                entry["how"] == "neutral" and entry["fragments"] == 1 for entry in entries
            ),
            **{how: counts[how] for how in ("neutral", "ion", "distances", "none")},
        },
        "samples": entries,
    }
    return json.dumps(whole, indent=1) + "\n"
