"""Memory of training B, L, H and G, and the largest micro-batch: python benchmarks/memory.py

Planned by the functions of `rawdiff check --world-size` for GPUs that need not be there, by default
H200. With --device cuda real steps of some of them are measured on the GPU here, beside what is
planned for its memory: of one sample at a time, and of the most that should fit; not compiled, as
in the plan. Prints a table, writes results/memory_plan.json (or memory_cuda.json).
"""

from __future__ import annotations

import argparse
import gc
from typing import Any

import torch
from measure import write_result

from rawdiff.assemble import Data, make_patcher
from rawdiff.bench.stand import wait_for
from rawdiff.bench.synthetic import Synthetic
from rawdiff.data.dataset import collate
from rawdiff.data.loading import Subset
from rawdiff.data.statistics import fixed
from rawdiff.parallel.batch import Shares
from rawdiff.parallel.processes import ALONE
from rawdiff.plan.scale import Machines, Plan, make_plan
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import load_recipe
from rawdiff.train.setup import set_up

PATCHES = {256: 16, 512: 32, 1024: 64}  # by pixels, as published: 256 patches each
AGAIN = "parallel.activation_checkpoint=true"
SETTINGS: dict[str, tuple[int, list[str]]] = {
    "1 GPU": (1, []),
    "1 GPU, activation_checkpoint": (1, [AGAIN]),
    "8 GPUs share": (8, ["parallel.shard=8"]),
    "8 GPUs share, activation_checkpoint": (8, ["parallel.shard=8", AGAIN]),
}
MEASURED = [("B", 256), ("B", 1024), ("L", 512), ("H", 256), ("G", 1024)]
NUM_STEPS = 2  # the first makes the optimizer's state, the second finds it there
GIB = 2**30


def load(size: str, image: int, keys: list[str]) -> Recipe:
    """As published, with its three averages."""
    return load_recipe(
        "imagenet_jit_b16",
        [
            f"model.size={size}",
            f"data.size={image}",
            f"adapter.patch_size={PATCHES[image]}",
            "train.ema=[{decay: 0.9999}, {decay: 0.9998}, {decay: 0.9996}]",
            "checkpoint.ema_every_steps=null",
            *keys,
        ],
    )


def plan(recipe: Recipe, machines: Machines) -> Plan:
    info = recipe.data.info
    patcher = make_patcher(recipe, info, fixed(0, 1, info.shape), torch.device("cpu"))
    return make_plan(recipe, info, patcher, machines)


def at(planned: Plan, micro_batch: int) -> Plan:
    """With so many samples at a time, twice in a step, so that gradients are added up."""
    return planned.with_shares(Shares(2 * micro_batch, micro_batch))


def most_samples(planned: Plan) -> int:
    """The largest micro-batch that fits, of whatever batch; 0 if none does."""
    fits, too_many = 0, 2**16
    while too_many - fits > 1:
        size = (fits + too_many) // 2
        if at(planned, size).fits:
            fits = size
        else:
            too_many = size
    return fits


def planned_row(size: str, image: int, setting: str, machines: Machines) -> dict[str, Any]:
    planned = plan(load(size, image, SETTINGS[setting][1]), machines)
    one, two, most = at(planned, 1).step_bytes, at(planned, 2).step_bytes, most_samples(planned)
    return {
        "network": f"{size}/{PATCHES[image]}",
        "image": image,
        "setting": setting,
        "parameters": planned.cost.num_parameters,
        "gib_without_samples": (2 * one - two) / GIB,
        "gib_a_sample": (two - one) / GIB,
        "largest_micro_batch": most,
        "gib_with_it": at(planned, most).peak_bytes / GIB if most else None,
        "parts_of_one_sample": at(planned, 1).parts,
    }


def planned_table(rows: list[dict[str, Any]]) -> str:
    """A line for each network, in Markdown; GiB + GiB a sample, then the largest micro-batch."""
    lines = [" | ".join(["", "network, pixels", *SETTINGS, ""]).strip()]
    lines.append("|" + "---|" * (1 + len(SETTINGS)))
    by_network: dict[tuple[str, int], list[str]] = {}
    for row in rows:
        cell = f"{row['gib_without_samples']:.1f} + {row['gib_a_sample']:.2f}"
        cell += f": **{row['largest_micro_batch']}**"
        by_network.setdefault((row["network"], row["image"]), []).append(cell)
    lines += [
        f"| {name}, {image:,} | {' | '.join(cells)} |"
        for (name, image), cells in by_network.items()
    ]
    return "\n".join(lines)


def measured_rows(size: str, image: int, keys: list[str], device: torch.device) -> Any:
    """A real step of one sample at a time, and of the most that should fit."""
    memory = torch.cuda.get_device_properties(device).total_memory
    machines = Machines(1, memory_gib=memory / GIB)
    planned = plan(load(size, image, keys), machines)
    for micro_batch in dict.fromkeys((1, most_samples(planned))):
        name = f"{size}/{PATCHES[image]}" + (", activation_checkpoint" if keys else "")
        row = {"network": name, "image": image, "micro_batch": micro_batch}
        if micro_batch:
            expected = at(planned, micro_batch)
            row |= {"planned_gib": expected.peak_bytes / GIB} | peak(expected.recipe, device)
        yield row


def peak(settings: Recipe, device: torch.device) -> dict[str, Any]:
    """Most bytes that tensors took in a step; what is said instead if they were too many."""
    torch.cuda.reset_peak_memory_stats()
    try:
        take_steps(settings, device)
    except torch.OutOfMemoryError as error:
        found: dict[str, Any] = {"error": f"{error!s:.200}"}
    else:
        found = {
            "measured_gib": torch.cuda.max_memory_allocated() / GIB,
            "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
        }
    gc.collect()  # what a failed step held is free before the next one
    torch.cuda.empty_cache()
    return found


def take_steps(settings: Recipe, device: torch.device) -> None:
    """On random images, without the loop around them."""
    parallel = settings.parallel.model_copy(update={"compile": False})
    settings = settings.model_copy(update={"parallel": parallel})
    info = settings.data.info
    images = Subset(Synthetic.like(info), range(settings.train.batch_size))
    training = set_up(
        settings,
        Data(images, None),
        fixed(127.5, 127.5, info.shape),
        device,
        ALONE,
        lambda network: network.initialize(settings.seed),
    )
    few = images.get_batch(range(min(8, len(images))))  # whose values matter to nothing here
    indices = range(len(images))
    batch = collate([few[i % len(few)] for i in indices], indices)
    for _ in range(NUM_STEPS):
        sums = training.compute_gradients(batch)
        training.update(sums, training.clip_gradients())
    wait_for(device)


def measured_table(rows: list[dict[str, Any]]) -> str:
    lines = ["| network, pixels | at a time | planned GiB | measured GiB |", "|---|---|---|---|"]
    for row in rows:
        measured = f"{row['measured_gib']:.2f}" if "measured_gib" in row else "did not fit"
        planned = f"{row['planned_gib']:.2f}" if "planned_gib" in row else "does not fit"
        text = f"| {row['network']}, {row['image']:,} | {row['micro_batch']} | {planned} |"
        lines.append(f"{text} {measured} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--memory-gib", type=float, default=Machines(1).memory_gib)
    args = parser.parse_args()
    if args.device == "cuda":
        rows = []
        for size, image in MEASURED:
            for keys in ([], [AGAIN]):
                for row in measured_rows(size, image, keys, torch.device("cuda")):
                    rows.append(row)
                    print(row, flush=True)
        print(measured_table(rows))
        print(write_result("memory_cuda", {"rows": rows}))
        return
    rows = [
        planned_row(size, image, setting, Machines(count, memory_gib=args.memory_gib))
        for size in "BLHG"
        for image in PATCHES
        for setting, (count, _) in SETTINGS.items()
    ]
    print(planned_table(rows))
    print(write_result("memory_plan", {"memory_gib": args.memory_gib, "rows": rows}))


if __name__ == "__main__":
    main()
