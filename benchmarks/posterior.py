"""Posterior sampling where the truth is known: python benchmarks/posterior.py

Gaussian fields on a small grid, the exact denoiser in place of a network. For each observation and
method: errors of the posterior's mean (relative to how far it lies from the prior's) and variance,
in norm, and how often 90 % intervals hold the truth (the least and greatest of 19 samples), also
apart for what was seen and hidden. And the price: how often the network was asked, and derived.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import torch
from measure import write_result
from torch import Tensor

from rawdiff.adapter import GridAdapter
from rawdiff.conditions import Conditions
from rawdiff.data.dataset import DataInfo
from rawdiff.data.patcher import Patcher
from rawdiff.data.statistics import Moments, Statistics
from rawdiff.evaluate.calibration import interval, ranks
from rawdiff.flow.settings import FlowSettings
from rawdiff.grid import PatchGrid
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import Sampler, draw_all

MEAN, STD = 280.0, 12.0  # in data units, by which samples are standardized
NUM_MEMBERS = 19  # the least and greatest of them hold 90 % of what they are drawn from


@dataclass
class Price:
    """How often a network was asked and derived for a batch of samples."""

    evaluations: int = 0
    derivatives: int = 0

    def counted(self, z: Tensor) -> Tensor:
        """z, for an evaluation."""
        self.evaluations += 1
        if z.requires_grad:
            z = z.view_as(z)
            z.register_hook(self._derived)
        return z

    def _derived(self, z_bar: Tensor) -> None:
        self.derivatives += 1


@dataclass(frozen=True)
class Field:
    """Gaussian fields [1, size, size] that are smooth over `length` grid points."""

    size: int = 8
    length: float = 1.5
    nugget: float = 0.02
    noise_scale: float = 1.0

    @property
    def covariance(self) -> Tensor:
        """Standardized [M, M] float64, M = size²."""
        points = torch.cartesian_prod(*[torch.arange(self.size).double()] * 2)
        smooth = torch.exp(-torch.cdist(points, points).square() / (2 * self.length**2))
        return (1 - self.nugget) * smooth + self.nugget * torch.eye(len(points)).double()

    def sampler(self, price: Price | None = None) -> Sampler:
        """With the exact E[x | z_t] as its network, which counts its `price`."""
        adapter, shape = GridAdapter(patch_size=(2, 2)), (1, self.size, self.size)
        statistics = Statistics(
            Moments(torch.tensor([MEAN]), torch.tensor([STD])),
            torch.ones(shape, dtype=torch.bool),
            missing_varies=False,
        )
        patcher = Patcher(adapter, statistics, PatchGrid(adapter.axes(shape, {})))
        flow = FlowSettings(noise_scale=self.noise_scale)
        values, vectors = torch.linalg.eigh(self.covariance)
        values, vectors = values.clamp(min=0).float(), vectors.float()

        def network(z: Tensor, t: Tensor, label: Tensor | None, **known: Any) -> Tensor:
            t, z = t[:, None], z if price is None else price.counted(z)
            noise = ((1 - t) * self.noise_scale).square()
            gain = t * values / (t.square() * values + noise)
            x = (patcher.raw(z).flatten(1) @ vectors * gain) @ vectors.T
            return adapter.patchify(x.view(-1, *shape))

        info = DataInfo(shape=shape, channels=("temperature",))
        return Sampler(network, patcher, flow, info, torch.device("cpu"), "float32")

    def draw(self, num: int, seed: int) -> Tensor:
        """True fields [num, 1, size, size] in data units."""
        normal = torch.randn(num, self.size**2, generator=torch.Generator().manual_seed(seed))
        values, vectors = torch.linalg.eigh(self.covariance)
        x = normal.double() * values.clamp(min=0).sqrt() @ vectors.T
        return (MEAN + STD * x).float().view(num, 1, self.size, self.size)


@dataclass(frozen=True)
class Case:
    """An observation: of all values, or those `seen`, with noise in the data's spread."""

    operator: dict[str, Any]
    noise: float
    seen: tuple[int, ...] | None = None

    def matrix(self, field: Field) -> Tensor:
        """A [M', M] of standardized fields, of what is seen alone."""
        rows = self._measure(field, torch.eye(field.size**2).view(-1, 1, field.size, field.size)).T
        return (rows if self.seen is None else rows[list(self.seen)]).double()

    def observe(self, field: Field, x: Tensor, seed: int) -> Tensor:
        """What is observed of true fields, in data units, NaN where not seen."""
        y = self._measure(field, x)
        noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
        y = y + STD * self.noise * noise
        if self.seen is not None:
            hidden = torch.ones(y.shape[1], dtype=torch.bool)
            hidden[list(self.seen)] = False
            y[:, hidden] = torch.nan
        return y.view(len(x), *self._shape(field, x[:1]))

    def _measure(self, field: Field, x: Tensor) -> Tensor:
        return self._apply(field, x).flatten(1)

    def _shape(self, field: Field, x: Tensor) -> tuple[int, ...]:
        return tuple(self._apply(field, x).shape[1:])

    def _apply(self, field: Field, x: Tensor) -> Tensor:
        sampler = field.sampler()
        settings = SampleSettings.model_validate({"observe": {"operator": self.operator}})
        assert settings.observe is not None
        return settings.observe.operator.measure(sampler.info, sampler.patcher.grid)(x)


def cases(field: Field, noise: float) -> dict[str, Case]:
    """The left half, means over blocks of 2 x 2, and 12 stations between the grid's points."""
    half = [i for i in range(field.size**2) if i % field.size < field.size // 2]
    places = torch.rand(12, 2, generator=torch.Generator().manual_seed(5)) * (field.size - 1)
    return {
        "half": Case({"name": "mask"}, noise, tuple(half)),
        "blocks": Case({"name": "coarsen", "factor": 2}, noise),
        "stations": Case({"name": "stations", "positions": places.tolist()}, noise),
    }


def draw(
    field: Field,
    case: Case,
    y: Tensor,
    num: int,
    method: dict[str, Any],
    price: Price | None = None,
    **settings: Any,
) -> Tensor:
    """Samples [num, M], standardized, for y [num, …]."""
    noise = None if method["name"] == "replacement" else STD * case.noise
    observe = {"operator": case.operator, "method": method, "noise_std": noise}
    chosen = SampleSettings.model_validate({"batch_size": 4000, "observe": observe} | settings)
    sampler = field.sampler(price)
    chosen, conditions = sampler.observing(chosen, Conditions(), num, y)
    x = torch.cat(list(draw_all(sampler, num, conditions, chosen)))
    return (x.flatten(1).double() - MEAN) / STD


def score(
    field: Field,
    case: Case,
    method: dict[str, Any],
    *,
    num_samples: int = 3000,
    num_truths: int = 100,
    **settings: Any,
) -> dict[str, float]:
    """Errors of mean and variance in norm, coverage of 90 % intervals, price, seconds."""
    start, price = time.monotonic(), Price()
    a, c = case.matrix(field), field.covariance
    gain = c @ a.T @ torch.linalg.inv(a @ c @ a.T + case.noise**2 * torch.eye(len(a)).double())
    variance = (c - gain @ a @ c).diagonal()
    y = case.observe(field, field.draw(1, seed=1), seed=2)[0]
    seen = y.flatten()[~y.flatten().isnan()].double()
    mean = gain @ (seen / STD - MEAN / STD * a.sum(1))
    x = draw(field, case, y, num_samples, method, price, **settings)
    truths = field.draw(num_truths, seed=3)
    ys = case.observe(field, truths, seed=4).repeat_interleave(NUM_MEMBERS, 0)
    members = draw(field, case, ys, len(ys), method, **settings | {"seed": 1})
    members = members.view(num_truths, NUM_MEMBERS, -1)
    true = (truths.flatten(1).double() - MEAN) / STD
    rank = ranks(members, true, torch.zeros_like(true))
    k, _ = interval(0.9, NUM_MEMBERS)
    held = (rank >= k) & (rank <= NUM_MEMBERS - k)
    apart = {}
    if case.seen is not None:
        known = torch.zeros(held.shape[1], dtype=torch.bool)
        known[list(case.seen)] = True
        apart = {
            "coverage_seen": float(held[:, known].double().mean()),
            "coverage_hidden": float(held[:, ~known].double().mean()),
        }
    return {
        "mean_error": float((x.mean(0) - mean).norm() / mean.norm()),
        "variance_error": float((x.var(0) - variance).norm() / variance.norm()),
        "variance_ratio": float(x.var(0).sum() / variance.sum()),
        "coverage": float(held.double().mean()),
        **apart,
        "evaluations": price.evaluations,
        "derivatives": price.derivatives,
        "seconds": round(time.monotonic() - start, 1),
    }


METHODS = [
    *({"name": "mmps", "num_iterations": n} for n in (3, 5, 10)),
    *({"name": "dps", "scale": scale} for scale in (0.1, 0.3, 1.0)),
    *({"name": "replacement", "num_resamples": n} for n in (1, 10)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.01, 0.03, 0.1, 0.5])
    parser.add_argument("--num-steps", type=int, default=50)
    parser.add_argument("--solver", default="heun")
    parser.add_argument("--name", default="posterior")
    args = parser.parse_args()
    field, rows = Field(), []
    for noise in args.noise:
        for name, case in cases(field, noise).items():
            for method in METHODS:
                if method["name"] == "replacement" and name != "half":
                    continue
                found = score(field, case, method, num_steps=args.num_steps, solver=args.solver)
                rows.append({"observed": name, "noise": noise, "method": method, **found})
                keys = " ".join(f"{key}={value}" for key, value in method.items())
                numbers = "  ".join(f"{key} {value:.3f}" for key, value in found.items())
                print(f"{name} {noise} {keys}: {numbers}", flush=True)
    print(write_result(args.name, {"rows": rows}))


if __name__ == "__main__":
    main()
