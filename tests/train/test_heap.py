"""Memory that a step frees is there for the next one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys, torch
from rawdiff.train.heap import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def step():
    tensors = [torch.ones(1 << 20) for _ in range(32)]  # 4 MB each, all freed at the end
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str, **environment: str) -> int:
    kept = {name: v for name, v in os.environ.items() if "MALLOC" not in name}
    ran = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, mode],
        env={**kept, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(ran.stdout)


def most_page_faults(mode: str, **environment: str) -> int:
    """Of three tries: now and then something lies above the freed memory, and all of it stays."""
    return max(page_faults(mode, **environment) for _ in range(3))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's malloc")
def test_no_page_is_taken_anew_in_each_step() -> None:
    pages = 10 * 32 * (4 << 20) // 4096
    assert page_faults("keep") < pages / 100
    assert most_page_faults("leave") > pages / 2  # or the test shows nothing
    told = {"MALLOC_TRIM_THRESHOLD_": "131072"}
    assert most_page_faults("keep", **told) > pages / 2  # the user's word counts
