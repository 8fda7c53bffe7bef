"""How many snapshots does a post-hoc average need? python benchmarks/posthoc_ema.py

A small network learns the demo's digits with seven power averages tracked. Averages of five widths
are made again from snapshots of the other two, and of one alone, and compared with those tracked;
also without the condition that coefficients sum to 1, which is how the paper has it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import write_result
from torch import Tensor

from rawdiff.averages.posthoc import Profile, Source, combine, inner_products, solve
from rawdiff.averages.snapshots import snapshots
from rawdiff.recipe_file import load_recipe
from rawdiff.saved.folder import RunFolder
from rawdiff.train.start import train

NUM_STEPS = 1000
NUM_SNAPSHOTS = (5, 10, 20, 25, 50, 100)
TRACKED = ((0.05, 0.1), (0.1,))
WANTED = (0.03, 0.075, 0.13, 0.15, 0.2)


def train_with_snapshots(folder: Path) -> RunFolder:
    widths = ", ".join(f"{{power: {width}}}" for width in (0.05, 0.1, *WANTED))
    changes = [
        f"run_dir={folder / 'run'}",
        "model={width: 64, depth: 2, heads: 2, in_context_start: 1}",
        f"train={{num_steps: {NUM_STEPS}, batch_size: 32, picture_every: null, ema: [{widths}]}}",
        f"checkpoint.ema_every_steps={NUM_STEPS // max(NUM_SNAPSHOTS)}",
    ]
    return train(load_recipe("demo", changes))


def error_of(
    run: RunFolder,
    tracked: tuple[float, ...],
    num_snapshots: int,
    width: float,
    *,
    sum_is_one: bool = True,
) -> float:
    """Norm of the difference over the norm of the average that was tracked directly."""
    every = NUM_STEPS // num_snapshots
    kept = [snapshot for snapshot in snapshots(run) if snapshot.step % every == 0]
    sources = [Source(Profile(w, one.step), one) for one in kept for w in tracked]
    profiles, target = [one.profile for one in sources], Profile(width, NUM_STEPS)
    coefficients, _ = solve(profiles, target)
    if not sum_is_one:
        gram = inner_products(profiles, profiles)
        coefficients = np.linalg.solve(gram, inner_products(profiles, [target])[:, 0])
    found = combine(sources, coefficients)
    reference = dict(kept[-1].tensors(width))
    return float(_norm({name: found[name] - reference[name] for name in found}) / _norm(reference))


def _norm(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in tensors.values()]).norm()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = train_with_snapshots(Path(folder))
        rows = [
            {"tracked": tracked, "sum_is_one": one, "snapshots": number}
            | {
                f"power_{width}": error_of(run, tracked, number, width, sum_is_one=one)
                for width in WANTED
            }
            for tracked in TRACKED
            for one in (True, False)
            for number in NUM_SNAPSHOTS
        ]
    print("tracked  sum is 1  snapshots  " + "  ".join(f"power_{width:<5}" for width in WANTED))
    for row in rows:
        errors = "  ".join(f"{row[f'power_{width}']:11.1e}" for width in WANTED)
        print(f"{row['tracked']!s:12s} {row['sum_is_one']!s:5s} {row['snapshots']:4d}  {errors}")
    print(write_result("posthoc_ema", {"num_steps": NUM_STEPS, "relative_errors": rows}))


if __name__ == "__main__":
    main()
