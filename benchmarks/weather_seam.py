"""Is longitude 0 a place like any other? python benchmarks/weather_seam.py RECIPE [key=value ...]

States are learned from nothing twice, everything else being the same: with longitudes on a circle
(`adapter: weather`), and on a strip with two ends (`adapter: grid`). The step of generated fields
over longitude 0 is then compared with those over all other borders between columns of patches.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from measure import write_result
from torch import Tensor

import rawdiff
from rawdiff.assemble import open_data
from rawdiff.recipe_file import load_recipe
from rawdiff.train.start import train

STATES = ["data.past=0", "data.target=state", "data.lead=1", "data.forcings=[]", "data.static=[]"]
PLAIN = ["evaluate.evaluators=null", "train.picture_every=null", "train.tensorboard=false"]


def seam(x: Tensor, patch_width: int) -> dict[str, float]:
    """Mean steps over borders of patches [n, C, H, W], relative to their mean but for longitude 0.

    1 at `longitude_0` is a circle without a seam; `least` and `most` are of all other borders.
    """
    step = (x - x.roll(1, dims=-1)).abs()[..., ::patch_width]  # over the west border of each patch
    steps = (step / x.std((0, 2, 3), keepdim=True)).mean((0, 1, 2)).double()
    others = steps[1:].mean()
    return {
        "longitude_0": float(steps[0] / others),
        "least": float(steps[1:].min() / others),
        "most": float(steps[1:].max() / others),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--samples", type=int, default=64)
    args = parser.parse_args()
    given = [*STATES, *PLAIN, *args.overrides]
    circle = load_recipe(args.recipe, given).adapter.model_dump()
    strip = {key: circle[key] for key in ("patch_size", "pad")} | {"name": "grid"}
    held_out = open_data(load_recipe(args.recipe, given)).holdout
    assert held_out is not None
    real = [torch.from_numpy(sample.x) for sample in held_out.get_batch(range(len(held_out)))]
    width = circle["patch_size"][-1]
    result = {"real": seam(torch.stack(real), width)}
    with tempfile.TemporaryDirectory() as folder:
        for name, keys in (("circle", []), ("strip", [f"adapter={json.dumps(strip)}"])):
            run = Path(folder) / name
            train(load_recipe(args.recipe, [*given, *keys, f"run_dir={run}"]), print)
            result[name] = seam(rawdiff.load(run).sample(args.samples, seed=1), width)
    for name, found in result.items():
        print(
            f"{name:7s} step over longitude 0: {found['longitude_0']:.3f} times the others "
            f"({found['least']:.3f} to {found['most']:.3f})"
        )
    print(write_result("weather_seam", {"samples": args.samples, "steps": result}))


if __name__ == "__main__":
    main()
