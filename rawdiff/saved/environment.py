"""Where a run took place: versions, machine and commit, so that it can be had again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

from rawdiff.plugins import plugins_of_others
from rawdiff.recipe_file import PLUGINS
from rawdiff.version import __version__


def _commit() -> str | None:
    """The commit of a clone, with a plus where files differ from it; None for a wheel."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_name() -> str | None:
    """As Linux calls it; None elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, None)


def describe_environment() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "rawdiff": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpu": gpu,
        "num_gpus": torch.cuda.device_count(),
        "processor": platform.processor() or platform.machine(),
        "cpu": _cpu_name(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "system": platform.platform(),
        PLUGINS: plugins_of_others(),
        "packages": {d.name: d.version for d in sorted(distributions(), key=lambda d: d.name)},
    }


def command_line() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def environment_json() -> str:
    return json.dumps(describe_environment() | {"command": command_line()}, indent=1)
