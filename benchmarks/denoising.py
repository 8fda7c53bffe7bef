"""What a run's network makes of real samples under noise: python benchmarks/denoising.py RUN ...

For spreads of noise in data units: squared error of x_pred on held-out samples, relative to that of
predicting nothing (zeros) and to that of leaving the noise as it is; for backbones the spread of
the errors of CA-CA distances, too. It says which scales a network has learned, where the loss says
only how much.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from measure import write_result
from torch import Tensor

from rawdiff import philox
from rawdiff.assemble import open_data
from rawdiff.conditions import conditions_of, real_batch
from rawdiff.run import TrainedModel, load

MAX_SAMPLES = 64


def measure(model: TrainedModel, spreads: list[float]) -> list[dict[str, float]]:
    """A row for each spread; the noise is the same in every run of these data."""
    sampler = model.sampler
    real = open_data(model.recipe).real
    batch = real_batch(real, range(min(MAX_SAMPLES, len(real))))
    conditions = conditions_of(batch, sampler.info)
    patcher = sampler.patcher
    std = float(patcher.statistics.x.std[0])
    x = patcher.standardize(batch.x)
    patches = patcher.adapter.patchify(x)
    known = None if patcher.all_known else ~patches.isnan()
    eps = philox.normal(0, philox.Stream.NOISE, torch.arange(len(x)), patches[0].numel())
    eps = patcher.raw(patcher.project(eps.view_as(patches), known))
    rows = []
    for spread in spreads:
        t = std / (std + spread)  # z_t / t is the sample with noise of this spread
        z_t = t * x + (1 - t) * eps
        x_pred = sampler.predict(z_t, torch.full((len(x),), t), conditions)
        error = (x_pred - x).square().nanmean()
        row = {
            "noise": spread,
            "t": t,
            "of_nothing": float(error / x.square().nanmean()),
            "of_noise": float(error) * (std / spread) ** 2,
        }
        if "CA.x" in sampler.info.channels:
            first = sampler.info.channels.index("CA.x")
            errors = _ca_distances(x_pred, first) - _ca_distances(x, first)
            row["ca_ca_error"] = std * float(errors[~errors.isnan()].std())
        rows.append(row)
    return rows


def _ca_distances(x: Tensor, first: int) -> Tensor:
    """Of neighbours [B, L - 1]; `first` is the channel of the x of CA."""
    return x[:, first : first + 3].diff(dim=-1).norm(dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--noise", type=float, nargs="+", required=True, help="in data units")
    parser.add_argument("--name", required=True, help="of the result: denoising_NAME.json")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    for run in args.runs:
        model = load(run)
        result[Path(run).name] = {"step": model.origin["step"], "rows": measure(model, args.noise)}
        for row in result[Path(run).name]["rows"]:
            print(run, "  ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)
    print(write_result(f"denoising_{args.name}", result))


if __name__ == "__main__":
    main()
