"""The same values cut into 256 to 16,384 patches: python benchmarks/tokens.py [--device cuda]

8 channels of 128 x 128 values with patches of 8, 4, 2 and 1: seconds and memory of a training step
of one sample, with and without activation checkpointing, each in a process of its own that runs the
steps of `rawdiff train`, not compiled; beside them what the plan says, and which share of the
operations is attention. Of a small network in float32, on a GPU of size L in bfloat16. On a CPU
these are the processor's seconds, so give it one thread (OMP_NUM_THREADS=1), and the memory of the
process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import torch
from measure import write_result
from torch.utils.flop_counter import FlopCounterMode

from rawdiff.assemble import Data, make_network, make_patcher
from rawdiff.bench.stand import wait_for
from rawdiff.bench.synthetic import Synthetic
from rawdiff.data.dataset import DataInfo, collate
from rawdiff.data.loading import Subset
from rawdiff.data.statistics import fixed
from rawdiff.parallel.processes import ALONE
from rawdiff.plan.scale import Machines, Plan, make_plan
from rawdiff.recipe import Recipe
from rawdiff.train.cost import run_on_nothing
from rawdiff.train.setup import set_up

INFO = DataInfo(shape=(8, 128, 128), channels=tuple("abcdefgh"))
STATISTICS = fixed(0, 1, INFO.shape)
PATCH_SIZES = (8, 4, 2, 1)
MODELS = {"cpu": {"width": 128, "depth": 4, "heads": 2, "in_context_len": 0}}
MODELS["cuda"] = {"size": "L", "in_context_len": 0}
SECONDS = 3.0  # that steps are timed for, after the first
PATIENCE = 10.0  # of a step; a slower one is timed once, and warms nothing up
GIVE_BACK = {
    "MALLOC_MMAP_THRESHOLD_": str(2**18)
}  # to glibc: memory of tensors, when they are gone
MIB = 2**20


def recipe(device: str, patch_size: int, *, recomputes: bool) -> Recipe:
    return Recipe.model_validate(
        {
            "run_dir": "runs/none",
            "data": {"name": "array", "path": "none.npy"},  # random values take its place
            "adapter": {"name": "grid", "patch_size": [patch_size] * 2},
            "model": MODELS[device],
            "train": {
                "num_steps": 1000,
                "batch_size": 1,
                "device": device,
                "precision": "float32" if device == "cpu" else "bfloat16",
            },
            "parallel": {"activation_checkpoint": recomputes, "compile": False},
        }
    )


def plan(settings: Recipe) -> Plan:
    patcher = make_patcher(settings, INFO, STATISTICS, torch.device("cpu"))
    return make_plan(settings, INFO, patcher, Machines(1))


def share_of_attention(settings: Recipe) -> float:
    """Of the operations of a forward pass; all products of two activations are attention's."""
    patcher = make_patcher(settings, INFO, STATISTICS, torch.device("cpu"))
    network = make_network(settings, INFO, patcher)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run_on_nothing(network, 1, torch.device("meta"))
    flops = {str(op): num for op, num in counter.get_flop_counts()["Global"].items()}
    attention = sum(n for op, n in flops.items() if "bmm" in op or "scaled_dot_product" in op)
    return attention / sum(flops.values())


def measure(settings: Recipe) -> dict[str, float]:
    """Seconds of a step, and MiB that it needs with weights, optimizer and average."""
    device = torch.device(settings.train.device)
    before = _most_bytes(device)
    data = Subset(Synthetic.like(INFO), range(1))
    training = set_up(
        settings,
        Data(data, None),
        STATISTICS,
        device,
        ALONE,
        lambda network: network.initialize(settings.seed),
    )
    batch = collate(data.get_batch([0]), [0])

    clock = time.process_time if device.type == "cpu" else time.perf_counter

    def step() -> float:
        start = clock()
        sums = training.compute_gradients(batch)
        training.update(sums, training.clip_gradients())
        wait_for(device)
        return clock() - start

    seconds = [step()]
    if seconds[0] < PATIENCE:
        seconds = [step()]
        while sum(seconds) < SECONDS:
            seconds.append(step())
    return {"seconds": min(seconds), "mib": (_most_bytes(device) - before) / MIB}


def _most_bytes(device: torch.device) -> int:
    """That tensors took on a GPU, or this process on a CPU, so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_apart(device: str, patch_size: int, *, recomputes: bool) -> dict[str, Any]:
    """In a process of its own; what it said last if it failed."""
    one = [device, str(patch_size), str(int(recomputes))]
    done = subprocess.run(
        [sys.executable, __file__, "--one", *one],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | GIVE_BACK,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    return json.loads(done.stdout)


def table(rows: list[dict[str, Any]]) -> str:
    names = ["patches", "attention", "activation_checkpoint", "step", "memory", "planned"]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row in rows:
        measured = row.get("error", f"{row.get('seconds', 0):.3g} s | {row.get('mib', 0):,.0f} MiB")
        again = "yes" if row["activation_checkpoint"] else "no"
        text = f"| {row['num_patches']:,} | {row['share_of_attention']:.0%} | {again} | {measured}"
        lines.append(f"{text} | {row['planned_mib']:,.0f} MiB |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=MODELS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        device, patch_size, recomputes = args.one
        found = measure(recipe(device, int(patch_size), recomputes=recomputes == "1"))
        print(json.dumps(found))
        return
    rows = []
    for patch_size in PATCH_SIZES:
        for recomputes in (False, True):
            settings = recipe(args.device, patch_size, recomputes=recomputes)
            row = {
                "num_patches": (INFO.shape[1] // patch_size) ** 2,
                "share_of_attention": share_of_attention(settings),
                "activation_checkpoint": recomputes,
                "planned_mib": plan(settings).step_bytes / MIB,
            }
            row |= measure_apart(args.device, patch_size, recomputes=recomputes)
            rows.append(row)
            print(row, flush=True)
    print(table(rows))
    print(write_result(f"tokens_{args.device}", {"model": MODELS[args.device], "rows": rows}))


if __name__ == "__main__":
    main()
