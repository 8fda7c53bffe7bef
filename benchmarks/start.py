"""How long rawdiff takes to answer, and how much it brings: python benchmarks/start.py [--count]

Each program is started in a process of its own, all in turn, so that a busy machine slows all of
them alike; the fastest of each is shown, and the processor time that it took. `--count` asks pip
what an installation into an empty environment would bring (needs the network).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from measure import write_result

PROGRAMS = {
    "python": "pass",
    "import torch": "import torch",
    "import torch, rawdiff": "import torch, rawdiff",
    "import torch; rawdiff.load": "import torch, rawdiff; rawdiff.load",
    "rawdiff --help": "from rawdiff.cli.main import main; main(['--help'])",
    "rawdiff list": "from rawdiff.cli.main import main; main(['list'])",
}


def seconds(program: str) -> tuple[float, float]:
    """On the clock, and of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program],
        check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    taken = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return taken, used


def packages_of(requirement: str) -> set[str]:
    """What pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        report = Path(folder) / "report.json"
        command = [
            *(Path(folder) / "bin" / "python", "-m", "pip", "install", "--quiet"),
            *("--dry-run", "--report", report, requirement),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(report.read_text())["install"]
    return {one["metadata"]["name"].lower().replace("_", "-") for one in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--count", action="store_true")
    args = parser.parse_args()
    found = [{name: seconds(text) for name, text in PROGRAMS.items()} for _ in range(args.repeat)]
    best = {
        name: {
            "seconds": round(min(one[name][0] for one in found), 3),
            "processor_seconds": round(min(one[name][1] for one in found), 3),
        }
        for name in PROGRAMS
    }
    for name, numbers in best.items():
        print(f"{name:28} {numbers['seconds']:6.2f} s  {numbers['processor_seconds']:6.2f} s busy")
    result: dict[str, Any] = {"best": best}
    if args.count:
        root = str(Path(__file__).parent.parent)
        brought = sorted(packages_of(root) - packages_of("torch") - {"rawdiff"})
        print(f"{len(brought)} packages beyond torch's own: {', '.join(brought)}")
        result["packages"] = brought
    print(write_result("start_cpu", result))


if __name__ == "__main__":
    main()
