"""How fast molecules and chains are read in random order: python benchmarks/molecule_reading.py

34,000 molecules of the sizes of QM9 and 1,000 chains of 40 to 300 residues, from packed files, by
batches of shuffled indices on one core, with the files in the memory of the system. For comparison
the same arrays compressed in chunks, each molecule read by plain h5py. The file is opened, and
checked, before the clock starts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from measure import write_result
from rawdiff_molecules.entry import BACKBONE, Chain, Molecule
from rawdiff_molecules.packing import packing
from rawdiff_molecules.ragged import Entries, Kind, Source

NUM_MOLECULES, NUM_CHAINS = 34_000, 1_000
ATOMS_PER_RESIDUE = 8
BATCHES = (1, 16, 64, 256)
CHUNK_ROWS = 4096


def make_molecules() -> Iterator[Molecule]:
    """Of 3 to 29 atoms, 18 on average, as in QM9."""
    random = np.random.default_rng(0)
    for i in range(NUM_MOLECULES):
        size = int(np.clip(round(random.normal(18, 3)), 3, 29))
        elements = random.choice(np.array([1, 6, 7, 8], np.uint8), size)
        positions = random.normal(size=(size, 3)).astype(np.float32)
        yield Molecule(f"molecule_{i}", f"made.xyz#{i + 1}", elements, positions)


def make_chains() -> Iterator[Chain]:
    random = np.random.default_rng(1)
    names = np.array([*BACKBONE, "CB", "CG", "CD", "OE1"])
    for i in range(NUM_CHAINS):
        size = int(random.integers(40, 301))
        positions = random.normal(size=(size, ATOMS_PER_RESIDUE, 3)).astype(np.float32)
        yield Chain(
            f"chain_{i}",
            f"made.pdb#{i + 1}",
            names=np.full(size, "GLU"),
            numbers=np.arange(size, dtype=np.int32),
            insertion_codes=np.full(size, " "),
            index=np.arange(size, dtype=np.int32),
            chain_ids=np.full(size, "A"),
            backbone=positions[:, : len(BACKBONE)],
            atom_offsets=np.arange(size + 1) * ATOMS_PER_RESIDUE,
            atom_names=np.tile(names, size),
            elements=np.tile(np.array([7, 6, 6, 8, 6, 6, 6, 8], np.uint8), size),
            positions=positions.reshape(-1, 3),
        )


def pack(kind: Kind, entries: Iterator[Molecule | Chain], path: Path) -> Entries:
    with packing(kind, path) as target:
        target.begin(Source("made", 0))
        for entry in entries:
            target.add(entry)
    return Entries(path)


def compressed(entries: Entries, path: Path) -> h5py.File:
    """Elements and positions of the same molecules as h5py's users mostly store them."""
    file = h5py.File(path, "w")
    with h5py.File(entries.path) as own:
        for name in ("atoms/elements", "atoms/positions"):
            data = own[name][()]
            chunks = (CHUNK_ROWS, *data.shape[1:])
            file.create_dataset(name, data=data, chunks=chunks, compression="gzip", shuffle=True)
    return file


def rates(read: Callable[[Any], Any], num_entries: int, batch: int, rounds: int) -> dict[str, Any]:
    """Entries a second of one core, the median of `rounds` parts of a shuffled epoch."""
    order = np.random.default_rng(2).permutation(num_entries)
    parts = np.array_split(order, rounds)
    found = []
    for part in parts:
        start = time.process_time()
        for i in range(0, len(part), batch):
            read(part[i : i + batch])
        found.append(len(part) / (time.process_time() - start))
    return {"entries_a_second": round(statistics.median(found)), "slowest": round(min(found))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        molecules = pack("molecules", make_molecules(), Path(folder) / "molecules.h5")
        chains = pack("chains", make_chains(), Path(folder) / "chains.h5")
        theirs = compressed(molecules, Path(folder) / "compressed.h5")
        ends = np.concatenate([[0], np.cumsum(molecules.num_atoms)])

        def one_by_one(indices: Any) -> None:
            for i in indices.tolist():
                theirs["atoms/elements"][ends[i] : ends[i + 1]]
                theirs["atoms/positions"][ends[i] : ends[i + 1]]

        readers: dict[str, tuple[Callable[[Any], Any], int, tuple[int, ...]]] = {
            "molecules": (molecules.molecules, NUM_MOLECULES, BATCHES),
            "molecules, compressed, by h5py": (one_by_one, NUM_MOLECULES, (64,)),
            "chains": (chains.chains, NUM_CHAINS, BATCHES[:3]),
            "backbones": (lambda i: chains.chains(i, atoms=False), NUM_CHAINS, BATCHES[:3]),
        }
        for name, (read, number, batches) in readers.items():
            read(np.arange(2))  # opened
            for batch in batches:
                found = results[f"{name}, {batch} at a time"] = rates(
                    read, number, batch, args.rounds
                )
                print(f"{name:32} {batch:4} at a time {found['entries_a_second']:10,} a second")
        theirs.close()
    print(write_result("molecule_reading", {"rounds": args.rounds, "readers": results}))


if __name__ == "__main__":
    main()
