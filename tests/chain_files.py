"""Chains of proteins for tests: ideal helices and strands as PDB files."""

from pathlib import Path

from ideal_backbones import Residue, build

LINE = "ATOM  {:5d}  {:<3s} ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00           {}\n"
HELIX, STRAND = Residue(-57, -47), Residue(-120, 130)


def write_chain(
    path: Path,
    length: int,
    *,
    of: tuple[Residue, Residue] = (HELIX, STRAND),
    first: int = 1,
    missing: tuple[int, ...] = (),
) -> Path:
    """Two halves, numbered from `first`; residues `missing` are not in the file."""
    backbone = build([of[0]] * (length // 2) + [of[1]] * (length - length // 2))
    lines, serial = [], 0
    for i, atoms in enumerate(backbone.tolist()):
        if first + i in missing:
            continue
        for name, xyz in zip(("N", "CA", "C", "O"), atoms, strict=True):
            serial += 1
            lines.append(LINE.format(serial, name, first + i, *xyz, name[0]))
    path.write_text("".join(lines) + "TER\nEND\n")
    return path


def write_chains(folder: Path, lengths: list[int]) -> Path:
    folder.mkdir()
    for number, length in enumerate(lengths):
        write_chain(folder / f"c{number:02d}.pdb", length, first=5, missing=(8,))
    return folder
