"""What benchmarks share: timing in parts, and results with hardware, versions, commit, command."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rawdiff.saved.environment import describe_environment

ROOT = Path(__file__).parents[1]
RESULTS = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
FACTS = (
    "rawdiff",
    "commit",
    "python",
    "torch",
    "cuda",
    "gpu",
    "processor",
    "num_cpus",
    "num_threads",
)


class Parts:
    """Seconds of each named part, one value a round; a GPU is waited for.

    By the clock on the wall; `time.process_time` leaves out what other programs take of a CPU.
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.device, self.clock = device, clock
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        self._wait()
        start = self.clock()
        yield
        self._wait()
        self.seconds[name].append(self.clock() - start)

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.time(name):
                return function(*args, **kwargs)

        return timed

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in self.seconds.items()}


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write results/<name>.json with all that is needed to have the numbers again."""
    environment = describe_environment()
    facts = {key: environment[key] for key in FACTS} | {"cpu": _cpu_name()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    script = Path(sys.argv[0]).resolve().relative_to(ROOT)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    program = ["python"] if count == 1 else ["torchrun", f"--nproc-per-node={count}"]
    command = " ".join([*program, str(script), *sys.argv[1:]])
    content = {"command": command, "environment": facts, **result}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown")
