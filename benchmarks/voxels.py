"""Do atoms come back from their densities? python benchmarks/voxels.py SDF_OR_XYZ [key=value ...]

Molecules of a file are turned, moved, voxelized and decoded, as `data: {name: molecules}` with the
given keys has them. Then a training step with densities that were made beforehand is compared with
one that makes them of atoms.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from measure import write_result
from rawdiff_molecules.decode import Decoded, decode
from rawdiff_molecules.elements import element_number
from rawdiff_molecules.molecules import Molecules

from rawdiff.assemble import make_network, make_patcher, materialize, take_statistics
from rawdiff.bench.parts import Parts
from rawdiff.data.dataset import Array, collate
from rawdiff.data.loading import Subset
from rawdiff.model.network import Network
from rawdiff.recipe import Recipe
from rawdiff.train.objective import Objective, Prepared

NUM_AT_ONCE = 64
BATCH_SIZE = 32


def error(decoded: Decoded, sample: Array, numbers: Array) -> float | None:
    """RMSD in Angstrom of the atoms that were found; None unless each is there exactly once."""
    sample = sample[~np.isnan(sample[:, 3])]
    elements = numbers[sample[:, 3].astype(int)]
    if sorted(elements) != sorted(decoded.elements):
        return None
    d2 = np.square(decoded.positions[:, None] - sample[None, :, :3]).sum(-1)
    d2[decoded.elements[:, None] != elements] = np.inf
    return float(np.sqrt(d2.min(1).mean())) if len({*d2.argmin(1)}) == len(d2) else None


def round_trip(data: Molecules) -> dict[str, Any]:
    """Of all samples, each turned and moved at random."""
    info, generator = data.info, torch.Generator().manual_seed(0)
    numbers = np.array([element_number(symbol) for symbol in info.channels])
    errors: list[float | None] = []
    seconds = {"voxelize": 0.0, "decode": 0.0}
    for start in range(0, len(data), NUM_AT_ONCE):
        indices = range(start, min(start + NUM_AT_ONCE, len(data)))
        batch = collate(data.get_batch(indices), indices)
        atoms = data.augment(batch, lambda n: torch.rand(len(indices), n, generator=generator))  # noqa: B023
        before = time.process_time()
        densities = data.render(atoms).x
        between = time.process_time()
        found = decode(densities, info)
        seconds["decode"] += time.process_time() - between
        seconds["voxelize"] += between - before
        errors += [error(d, x, numbers) for d, x in zip(found, atoms.x.numpy(), strict=True)]
    exact = [value for value in errors if value is not None]
    return {
        "findings": {finding.name: finding.text for finding in data.findings()},
        "molecules": len(data.entries),
        "samples": len(errors),
        "exact": len(exact) / len(errors),
        "rmsd_angstrom": {"mean": float(np.mean(exact)), "max": float(np.max(exact))},
        "cpu_ms_a_molecule": {name: 1e3 * value / len(errors) for name, value in seconds.items()},
    }


def training_steps(data: Molecules, num_rounds: int) -> dict[str, Any]:
    """CPU seconds of a step's forward and backward with atoms, and with ready densities, in turns.

    Of the small network of `recipes/qm9_mol3d_cpu.yaml`: in a larger one the share is smaller.
    """
    recipe = Recipe.model_validate(
        {
            "run_dir": "runs/none",
            "data": {"name": "molecules", **data.model_dump(mode="json")},
            "adapter": {"name": "mol3d", "patch_size": 8},
            "standardization": {"mode": "fixed", "mean": 0, "std": 0.25, "num_samples": 64},
            "model": {"width": 256, "depth": 6, "heads": 4, "in_context_len": 0},
            "train": {"num_steps": 1, "batch_size": BATCH_SIZE, "device": "cpu"},
        }
    )
    device = torch.device("cpu")
    subset = Subset(data, range(len(data)))
    patcher = make_patcher(recipe, data.info, take_statistics(recipe, subset), device)
    network = materialize(make_network(recipe, data.info, patcher), device)
    network.initialize(0)
    objective = Objective(recipe, patcher, subset, device)
    parts = Parts(device, time.process_time)
    for number in range(num_rounds + 1):
        if number == 1:
            parts.seconds.clear()  # the first round warms up
        indices = range(number * BATCH_SIZE, (number + 1) * BATCH_SIZE)
        batch = collate(data.get_batch(indices), indices)
        densities = objective.prepare(batch).patches.x
        ready = replace(batch, x=patcher.destandardize(patcher.raw(densities)))
        with parts.time("with_atoms"):
            _step(objective, network, objective.prepare(batch))
        with parts.time("with_densities"):
            _step(objective, network, Prepared(patcher.patches(ready), ready.index, None, None))
    ratios = [a / b for a, b in zip(*parts.seconds.values(), strict=True)]
    return {"seconds": parts.medians(), "ratio": statistics.median(ratios)}


def _step(objective: Objective, network: Network, prepared: Prepared) -> None:
    errors = objective.errors(network, prepared, objective.add_noise(prepared))
    torch.autograd.backward(errors.total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    keys = {key: yaml.safe_load(value) for key, value in (o.split("=", 1) for o in args.overrides)}
    raw = Molecules.model_validate({"path": args.path, **keys})
    with tempfile.TemporaryDirectory() as folder:
        raw.pack(Path(folder), lambda done, of: None)
        data = raw.packed(Path(folder))
        assert isinstance(data, Molecules)
        result = {
            "data": raw.model_dump(mode="json", exclude={"path"}),
            "round_trip": round_trip(data),
            "training_step": training_steps(data, args.rounds),
        }
    trip, step = result["round_trip"], result["training_step"]
    print(
        f"{trip['exact']:.2%} of {trip['samples']:,} exact, RMSD at most "
        f"{trip['rmsd_angstrom']['max']:.1g} Angstrom; a step with atoms takes {step['ratio']:.3f} "
        "times that with densities"
    )
    print(write_result("voxels", result))


if __name__ == "__main__":
    main()
