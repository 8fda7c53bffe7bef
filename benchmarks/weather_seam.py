"""Is longitude 0 a place like any other? python benchmarks/weather_seam.py RECIPE [key=value ...]

States are learned from nothing twice, everything else being the same: with longitudes on a circle
(`adapter: weather`), and on a strip with two ends (`adapter: grid`). Generated fields are then
compared over longitude 0 and over all other borders between columns of patches.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from measure import write_result
from torch import Tensor

import rawdiff
from rawdiff.assemble import open_data
from rawdiff.recipe_file import load_recipe
from rawdiff.train.start import train

STATES = ["data.past=0", "data.target=state", "data.lead=1", "data.forcings=[]", "data.static=[]"]
PLAIN = ["evaluate.evaluators=null", "train.picture_every=null", "train.tensorboard=false"]


def seam(x: Tensor, patch_width: int) -> dict[str, dict[str, float]]:
    """Of borders of patches in x [n, C, H, W], relative to their mean but for longitude 0.

    `step` is |x_j - x_j-1| over a border; `kink` how far that is from the mean of the steps on both
    sides, which shows seams in smooth fields. 1 at `longitude_0` is a circle without a seam;
    `least` and `most` are of all other borders.
    """
    steps = x - x.roll(1, dims=-1)  # over the west side of each column
    kinks = steps - (steps.roll(1, dims=-1) + steps.roll(-1, dims=-1)) / 2
    found = {}
    for name, values in (("step", steps), ("kink", kinks)):
        scaled = values.abs()[..., ::patch_width] / x.std((0, 2, 3), keepdim=True)
        at = scaled.mean((0, 1, 2)).double()
        others = at[1:].mean()
        found[name] = {
            "longitude_0": float(at[0] / others),
            "least": float(at[1:].min() / others),
            "most": float(at[1:].max() / others),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--runs", type=Path, default=Path("runs/weather_seam"))
    args = parser.parse_args()
    given = [*STATES, *PLAIN, *args.overrides]
    circle = load_recipe(args.recipe, given).adapter.model_dump()
    strip = {key: circle[key] for key in ("patch_size", "pad")} | {"name": "grid"}
    held_out = open_data(load_recipe(args.recipe, given)).holdout
    assert held_out is not None
    real = np.stack([sample.x for sample in held_out.get_batch(range(len(held_out)))])
    width = circle["patch_size"][-1]
    result = {"real": seam(torch.from_numpy(real), width)}
    for name, keys in (("circle", []), ("strip", [f"adapter={json.dumps(strip)}"])):
        run = args.runs / name
        train(load_recipe(args.recipe, [*given, *keys, f"run_dir={run}"]), print)
        result[name] = seam(rawdiff.load(run).sample(args.samples, seed=1), width)
    for name, measures in result.items():
        for measure, found in measures.items():
            print(
                f"{name:7s} {measure} over longitude 0: {found['longitude_0']:.3f} times the "
                f"others ({found['least']:.3f} to {found['most']:.3f})"
            )
    print(write_result("weather_seam", {"samples": args.samples, "steps": result}))


if __name__ == "__main__":
    main()
