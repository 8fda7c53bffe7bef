"""What real chains score, and what their distances give back: python benchmarks/chains.py FOLDER

FOLDER has structures of single chains (PDB, mmCIF). Scores of every second one against the others,
as they are, in a mirror, and with noise. Of all of them the distances of CA, decoded: with and
without omega, and of those up to 20 Angstrom alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measure import write_result
from rawdiff_molecules.backbone_scores import Backbones as Scores
from rawdiff_molecules.backbone_scores import backbone_features
from rawdiff_molecules.backbones import Backbones
from rawdiff_molecules.geometry import CA, as_backbone, superposed_rmsd
from rawdiff_molecules.pair_decode import decode
from rawdiff_molecules.pair_geometry import pair_maps
from rawdiff_molecules.peptide import neighbours
from torch import Tensor

from rawdiff.data.dataset import collate
from rawdiff.evaluate.evaluator import Basis

MIRROR = torch.tensor([1, 1, -1]).repeat(4)[:, None]
NOISE, FARTHEST, BATCH = 0.1, 20.0, 16  # Angstrom, Angstrom, chains


def scores(x: Tensor, index: Tensor) -> dict[str, dict[str, float]]:
    """By what was done to the first half of samples [n, 12, L]."""
    reference = backbone_features(x[1::2], index[1::2])
    noise = NOISE * torch.randn(x[::2].shape, generator=torch.Generator().manual_seed(0))
    basis = Basis(
        Backbones(path="", max_length=x.shape[-1]).info, None, torch.zeros(12), torch.ones(12)
    )
    return {
        name: Scores().score(backbone_features(changed, index[::2]), reference, basis)
        for name, changed in (
            ("as they are", x[::2]),
            ("in a mirror", x[::2] * MIRROR),
            ("with noise", x[::2] + noise),
        )
    }


def decoding(x: Tensor, index: Tensor) -> dict[str, dict[str, float]]:
    """Of samples [n, 12, L], longest last: errors after superposition, hands, seconds a chain."""
    found = {}
    for name, num_channels, farthest in (
        ("distances alone", 1, None),
        ("with omega", 3, None),
        (f"distances up to {FARTHEST:g} Angstrom", 1, FARTHEST),
    ):
        start, errors, right = time.perf_counter(), [], []
        for part, at in zip(x.split(BATCH), index.split(BATCH), strict=True):
            length = int(at.isfinite().any(dim=0).sum())
            backbone, at = as_backbone(part)[:, :length], at[:, :length]
            maps = pair_maps(backbone)[:, :num_channels]
            if farthest is not None:
                maps[:, 0] = torch.where(maps[:, 0] > farthest, torch.nan, maps[:, 0])
            for own, true in zip(decode(maps, neighbours(at)), backbone[..., CA, :], strict=True):
                error, mirrored = (superposed_rmsd(ca, true.double()) for ca in (own.ca, -own.ca))
                errors.append(torch.minimum(error, mirrored))
                right.append(bool(error <= mirrored))
        rmsd = torch.stack(errors)
        found[name] = {
            "median error": float(rmsd.median()),
            "95 % below": float(rmsd.quantile(0.95)),
            "largest error": float(rmsd.max()),
            "right hand": sum(right) / len(right),
            "seconds a chain": (time.perf_counter() - start) / len(x),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    with tempfile.TemporaryDirectory() as work:
        data = Backbones(path=str(parser.parse_args().folder), max_length=300)
        packed = data.pack(Path(work), lambda done, total: None)
        data = Backbones(path=str(packed), max_length=300)
        batch = collate(data.get_batch(range(len(data))), range(len(data)))
    order = batch.x[:, CA].isfinite().sum(dim=1).argsort(stable=True)
    assert batch.place is not None
    x, index = batch.x[order], batch.place[order, 0]
    result: dict[str, Any] = {"chains": len(x)}
    result |= {"scores": scores(x, index), "decoding": decoding(x, index)}
    print(write_result("chains", result))


if __name__ == "__main__":
    main()
