"""Everything for a GPU machine in one command, in under nine minutes: python benchmarks/gpu.py

Runs the GPU tests and the benchmarks, the most telling first, writes their JSON to results/ (or to
the folder in the environment variable OUT), and prints a short table last: images a second and the
share of the chip's peak beside the published structure, then what ran and how long. What the time
does not suffice for is named. rawdiff must be installed there, so that its plug-ins are found:
`pip install .`, or the wheel that `pip wheel --no-deps .` makes elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).parents[1]
STEPS = {
    "GPU tests": ["-m", "pytest", "-q", "-o", "addopts=", "tests/gpu"],
    "published": ["benchmarks/published.py", "--device", "cuda"],
    "attention": ["benchmarks/attention.py", "--device", "cuda"],
    "published sampling": ["benchmarks/published_sampling.py", "--device", "cuda"],
    "train step": ["benchmarks/train_step.py", "--device", "cuda"],
    "optimizers": ["benchmarks/optimizers.py", "--device", "cuda"],
    "optimizations": ["benchmarks/optimizations.py", "--device", "cuda", "--rounds", "3"],
    "overhead": ["benchmarks/overhead.py", "--device", "cuda", "--steps", "50"],
    "save": ["benchmarks/save.py", "--device", "cuda"],
    "memory": ["benchmarks/memory.py", "--device", "cuda"],
    "many patches": ["benchmarks/tokens.py", "--device", "cuda"],
}
TABLE_OF = "published"  # whose own lines are worth reading once more at the end
SECONDS_OF_ONE = 240.0
SECONDS_IN_ALL = 530.0


class Outcome(NamedTuple):
    name: str
    verdict: str
    seconds: float
    printed: str


def run(name: str, command: list[str], seconds: float) -> Outcome:
    """One step, stopped after so many seconds; what it prints is shown at once."""
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            timeout=seconds,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        verdict, printed = "STOPPED", (error.stdout or b"").decode(errors="replace")
    else:
        verdict = "ok" if done.returncode == 0 else f"FAILED ({done.returncode})"
        printed = done.stdout
    print(f"== {name}\n{printed}", flush=True)
    return Outcome(name, verdict, time.perf_counter() - start, printed)


def run_all(steps: dict[str, list[str]], seconds_of_one: float, in_all: float) -> list[Outcome]:
    """Steps in their order, until the time is over; those behind it are outcomes, too."""
    end, outcomes = time.perf_counter() + in_all, []
    for name, command in steps.items():
        left = end - time.perf_counter()
        if left > 0:
            outcomes.append(run(name, command, min(left, seconds_of_one)))
        else:
            outcomes.append(Outcome(name, "NO TIME", 0.0, ""))
    return outcomes


def main() -> int:
    if not torch.cuda.is_available():
        print("torch finds no GPU: nothing was measured.")
        return 1
    outcomes = run_all(STEPS, SECONDS_OF_ONE, SECONDS_IN_ALL)
    print(f"== {torch.cuda.get_device_name()}, torch {torch.__version__}")
    print("".join(one.printed for one in outcomes if one.name == TABLE_OF), end="")
    for one in outcomes:
        print(f"{one.name:12s} {one.verdict:12s} {one.seconds:6.1f} s")
    return int(any(one.verdict != "ok" for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
