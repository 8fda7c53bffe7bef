"""Samples a second of ours beside the published sampler: python benchmarks/published_sampling.py

The published structure runs its network twice for each velocity, with the label and without, and
does so at all times, though guidance acts in [0.1, 1] only; ours runs both as one batch, and only
where they count. Both draw the same samples (Heun, guidance 3) from the same noise with the same
weights, in turn; how far they lie apart is printed. The network is that of published.py: on a CPU
width 384 and depth 6, in float32 and bfloat16; on a GPU (--device cuda) JiT-B/16 in bfloat16.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import write_result
from published import CASES, make_random, recipe, time_in_turn
from published_structure import PublishedNetwork
from torch import Tensor
from training import make_training

from rawdiff import philox
from rawdiff.conditions import Conditions
from rawdiff.model.transformer import Transformer
from rawdiff.parallel.apply import compile_parts
from rawdiff.precision import Precision, autocast, choose_device
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import Sampler

T_EPS = 0.05  # as published
INTERVAL = (0.1, 1.0)


class PublishedSampler:
    """Patches z [B, N, P] at t = 0 to samples, as the published code draws them."""

    def __init__(self, network: PublishedNetwork, num_classes: int, precision: Precision) -> None:
        self.network, self.num_classes, self.precision = network, num_classes, precision

    @torch.no_grad()
    def draw(self, z: Tensor, label: Tensor, num_steps: int, cfg_scale: float) -> Tensor:
        times = torch.linspace(0.0, 1.0, num_steps + 1, device=z.device)
        times = times.view(-1, 1, 1, 1).expand(-1, len(z), 1, 1)
        with autocast(self.precision, z.device):
            for i in range(num_steps - 1):
                t, t_next = times[i], times[i + 1]
                v = self.velocity(z, t, label, cfg_scale)
                ahead = z + (t_next - t) * v
                v_next = self.velocity(ahead, t_next, label, cfg_scale)
                z = z + (t_next - t) * (0.5 * (v + v_next))
            step = times[-1] - times[-2]
            return z + step * self.velocity(z, times[-2], label, cfg_scale)

    def velocity(self, z: Tensor, t: Tensor, label: Tensor, cfg_scale: float) -> Tensor:
        x_label = self.network(z, t.flatten(), label)
        v_label = (x_label - z) / (1.0 - t).clamp_min(T_EPS)
        x_none = self.network(z, t.flatten(), torch.full_like(label, self.num_classes))
        v_none = (x_none - z) / (1.0 - t).clamp_min(T_EPS)
        low, high = INTERVAL
        inside = (t < high) & ((low == 0) | (t > low))
        scale = torch.where(inside, cfg_scale, 1.0)
        return v_none + scale * (v_label - v_none)


def make_sampler(
    folder: Path, case: dict[str, Any], device: torch.device, precision: Precision
) -> tuple[Sampler, Transformer]:
    """Ours with random weights, and its network."""
    keys = {"compile": False, "precision": precision, "model": {"swiglu_multiple": 1}}
    training = make_training(recipe(folder, case, device.type, **keys), device)
    network, objective = training.state.network, training.objective
    assert isinstance(network, Transformer)
    make_random(network)
    info = objective.train.info
    sampler = Sampler(network.eval(), objective.patcher, objective.flow, info, device, precision)
    return sampler, network


def measure(
    folder: Path, case: dict[str, Any], device: torch.device, precision: Precision, args: Any
) -> dict[str, Any]:
    settings = SampleSettings(
        num_steps=args.num_steps, cfg_scale=3.0, cfg_interval=INTERVAL, t_eps=T_EPS
    )
    index = torch.arange(args.batch)
    label = (index % 10).to(device)
    sampler, network = make_sampler(folder, case, device, precision)
    conditions = Conditions(label)
    patcher = sampler.patcher
    shape = (args.batch, patcher.grid.num_patches, patcher.patch_dim)
    noise = philox.normal(0, philox.Stream.SAMPLE_NOISE, index.to(device), shape[1] * shape[2])
    noise = sampler.flow.noise_std * noise.view(shape)
    drawn: dict[str, Tensor] = {}
    steps: dict[str, Callable[[], object]] = {}
    for text in ("eager", "compiled"):
        if device.type == "cuda" and text == "eager":
            continue
        theirs = PublishedNetwork(network, compiled=text == "compiled")
        published = PublishedSampler(theirs, sampler.info.num_classes, precision)
        ours, network_of_ours = make_sampler(folder, case, device, precision)
        if text == "compiled":
            compile_parts(network_of_ours)

        def draw_theirs(name: str = f"published, {text}", sampler=published) -> None:
            z = sampler.draw(noise, label, settings.num_steps, settings.cfg_scale)
            drawn[name] = patcher.destandardize(patcher.raw(z)).cpu()

        def draw_ours(name: str = f"rawdiff, {text}", sampler=ours) -> None:
            drawn[name] = sampler.draw(index, conditions, settings)

        steps |= {f"published, {text}": draw_theirs, f"rawdiff, {text}": draw_ours}
    seconds = time_in_turn(steps, device, args.rounds, 1)
    exact = PublishedSampler(
        PublishedNetwork(network, compiled=False), sampler.info.num_classes, "float32"
    )
    z = exact.draw(noise, label, settings.num_steps, settings.cfg_scale)
    drawn["float32"] = patcher.destandardize(patcher.raw(z)).cpu()

    def apart(a: str, b: str) -> float:
        spread = 127.5  # of standardized values, in grey levels
        return float((drawn[a] - drawn[b]).square().mean().sqrt() / spread)

    row: dict[str, Any] = {
        "precision": precision,
        "samples_per_second": {name: args.batch / value for name, value in seconds.items()},
        "ratio": {},
        "root_mean_square_difference": {},
        "of_float32": {name: apart(name, "float32") for name in steps},
    }
    for text in dict.fromkeys(name.split(", ")[1] for name in steps):
        ours_, theirs_ = f"rawdiff, {text}", f"published, {text}"
        row["ratio"][text] = seconds[theirs_] / seconds[ours_]
        row["root_mean_square_difference"][text] = apart(ours_, theirs_)
        rates = row["samples_per_second"]
        print(
            f"{precision:8s} {text:8s} published {rates[theirs_]:.2f}  rawdiff {rates[ours_]:.2f} "
            f"samples/s: {row['ratio'][text]:.2f} times; {apart(ours_, theirs_):.1e} apart, "
            f"{row['of_float32'][theirs_]:.1e} and {row['of_float32'][ours_]:.1e} from float32",
            flush=True,
        )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num-steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    device = choose_device(args.device)
    case = CASES["small" if device.type == "cpu" else "B/16"]
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(Path(folder), case, device, precision, args)
            for precision in (precisions if device.type == "cpu" else precisions[1:])
        ]
    print(write_result(f"published_sampling_{args.device}", {"rows": rows}))


if __name__ == "__main__":
    main()
