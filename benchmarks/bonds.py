"""How exact must atoms lie for their bonds to be found? python benchmarks/bonds.py SDF_OR_XYZ

Of the first molecules of a file, with noise of several spreads on every coordinate: the share that
is found to be one neutral molecule, and the median strain of those.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
from measure import write_result
from rawdiff_molecules.bonds import find_bonds
from rawdiff_molecules.features import strain
from rawdiff_molecules.molecules import Molecules

NOISE = (0.0, 0.05, 0.1, 0.15)  # Angstrom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", help="of molecules with hydrogen")
    parser.add_argument("--num", type=int, default=500)
    args = parser.parse_args()
    raw, rows = Molecules(path=args.path), []
    with tempfile.TemporaryDirectory() as folder:
        data = raw.model_copy(
            update={"path": str(raw.pack(Path(folder) / "packed", lambda done, total: None))}
        )
        molecules = data.entries.molecules(np.arange(args.num))
    for spread in NOISE:
        noise, strains = np.random.default_rng(0), []
        for molecule in molecules:
            moved = molecule.positions + spread * noise.standard_normal(molecule.positions.shape)
            bonded = find_bonds(molecule.elements, moved.astype(np.float32))
            if bonded.how == "neutral" and bonded.num_fragments == 1:
                strains.append(strain(bonded))
        known = [value for value in strains if np.isfinite(value)]
        row = {
            "noise": spread,
            "neutral": len(strains) / len(molecules),
            "median_strain": statistics.median(known),
        }
        rows.append(row)
        print("  ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)
    print(write_result("bonds", {"num_molecules": len(molecules), "rows": rows}))


if __name__ == "__main__":
    main()
