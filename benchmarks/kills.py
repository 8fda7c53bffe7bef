"""Runs killed at random and continued: python benchmarks/kills.py [--runs 20] [--share 0.25]

Each run of a tiny recipe is killed with SIGKILL, all processes and their launcher, at a moment of
its duration that the seed draws, all moments alike; then the same command continues it to the end.
Its last checkpoint (weights, moments, averages, guard, window) and its log must be those of a run
that nobody killed, to the last bit. A share of the runs has two processes, started by torchrun.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from measure import ROOT, write_result

sys.path.append(str(ROOT / "tests"))  # the suite does the same with fewer kills

from killed_runs import KilledRun, Pace, quick_recipe
from runs import differences

from rawdiff.saved.checkpoint import checkpoints
from rawdiff.saved.folder import RunFolder

NUM_STEPS = {1: 60, 2: 40}  # by the number of processes
BAD_END = "terminate called"  # what C++ says of a process that ends in disorder


def kill_and_continue(
    run: KilledRun, whole: KilledRun, pace: Pace, random: Random
) -> dict[str, Any]:
    """What one kill met, where the run went on, and what differs at its end."""
    kill = run.kill(pace.moment(random))
    after = checkpoints(RunFolder(run.folder)) if run.folder.is_dir() else []
    run.finish(pace.num_steps)
    return {
        "processes": run.num_processes,
        "kill": None if kill is None else asdict(kill),
        "continues_after": after[-1].step if after else 0,
        "differences": differences(run.folder, whole.folder, pace.num_steps),
        "ends_badly": BAD_END in run.output.read_text(),
    }


def measure(folder: Path, num_runs: int, share: float, seed: int) -> dict[str, Any]:
    random = Random(seed)
    found, paces = [], {}
    num_alone = num_runs - round(share * num_runs)
    for num_processes, runs in ((1, range(num_alone)), (2, range(num_alone, num_runs))):
        if not runs:
            continue
        here = folder / str(num_processes)
        here.mkdir()
        recipe = quick_recipe(here, NUM_STEPS[num_processes])
        whole = KilledRun(recipe, here / "whole", num_processes)
        pace = paces[num_processes] = whole.finish(NUM_STEPS[num_processes])
        for i in runs:
            run = KilledRun(recipe, here / f"run-{i}", num_processes)
            found.append(kill_and_continue(run, whole, pace, random))
            print(_line(i, found[-1]), flush=True)
    kills = [one["kill"] for one in found if one["kill"]]
    return {
        "seed": seed,
        "uninterrupted": {str(count): asdict(pace) for count, pace in paces.items()},
        "num_runs": num_runs,
        "num_killed": len(kills),  # the others ended before their moment came
        "num_killed_before_the_first_step": sum(kill["last_step"] == 0 for kill in kills),
        "num_killed_in_a_save": sum(kill["in_a_save"] for kill in kills),
        "num_different": sum(bool(one["differences"]) for one in found),
        "num_ended_badly": sum(one["ends_badly"] for one in found),
        "runs": found,
    }


def _line(number: int, one: dict[str, Any]) -> str:
    kill = one["kill"]
    if kill is None:
        where = "ended before its moment"
    else:
        where = f"killed after step {kill['last_step']}" + ", in a save" * kill["in_a_save"]
    same = "differs in " + ", ".join(one["differences"]) if one["differences"] else "the same"
    processes = "1 process" if one["processes"] == 1 else f"{one['processes']} processes"
    return (
        f"{number:3d}  {processes:11}  {where}; goes on after {one['continues_after']}; "
        f"{same}{'; ends badly' * one['ends_badly']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.25, help="of runs with two processes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), args.runs, args.share, args.seed)
    print(
        f"{result['num_killed']} killed, {result['num_killed_in_a_save']} of them in a save; "
        f"{result['num_different']} of {result['num_runs']} differ at the end"
    )
    print(write_result("kills", result))
    sys.exit(bool(result["num_different"]))


if __name__ == "__main__":
    main()
