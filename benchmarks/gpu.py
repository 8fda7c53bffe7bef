"""Everything for a GPU machine in one command: python benchmarks/gpu.py

Runs the GPU tests and the benchmarks, writes their JSON to results/ (or to the folder in the
environment variable OUT), and prints a short table last. rawdiff must be installed there, so that
its plug-ins are found: `pip install .`, or the wheel that `pip wheel --no-deps .` makes elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
STEPS = {
    "GPU tests": ["-m", "pytest", "-q", "-o", "addopts=", "tests/gpu"],
    "train step": ["benchmarks/train_step.py", "--device", "cuda"],
    "optimizers": ["benchmarks/optimizers.py", "--device", "cuda"],
    "overhead": ["benchmarks/overhead.py", "--device", "cuda", "--steps", "50"],
    "save": ["benchmarks/save.py", "--device", "cuda"],
}
LIMIT_SECONDS = 240


def main() -> int:
    if not torch.cuda.is_available():
        print("torch finds no GPU: nothing was measured.")
        return 1
    rows = []
    for name, command in STEPS.items():
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            timeout=LIMIT_SECONDS,
            capture_output=True,
            text=True,
            check=False,
        )
        print(f"== {name}\n{done.stdout}{done.stderr}")
        rows.append((name, done.returncode, time.perf_counter() - start))
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name, code, seconds in rows:
        print(f"{name:12s} {'ok' if code == 0 else f'FAILED ({code})':12s} {seconds:6.1f} s")
    return max(code for _, code, _ in rows)


if __name__ == "__main__":
    sys.exit(main())
