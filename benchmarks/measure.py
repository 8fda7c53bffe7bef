"""What benchmarks share: results with hardware, versions, commit, command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

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
    "cpu",
    "num_cpus",
    "num_threads",
)


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write results/<name>.json with all that is needed to have the numbers again."""
    environment = describe_environment()
    facts = {key: environment[key] for key in FACTS}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    script = Path(sys.argv[0]).resolve().relative_to(ROOT)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    program = ["python"] if count == 1 else ["torchrun", f"--nproc-per-node={count}"]
    command = " ".join([*program, str(script), *sys.argv[1:]])
    content = {"command": command, "environment": facts, **result}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
