"""Which checkpoints a run has, and whether each is as it was when it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rawdiff.errors import UserError
from rawdiff.saved.checkpoint import checkpoints
from rawdiff.saved.folder import RunFolder


@dataclass(frozen=True)
class Verdict:
    """What is known of a checkpoint."""

    step: int
    num_bytes: int
    permanent: bool
    """Never deleted by the run."""
    damage: str | None
    """Which file and how; None if every one has its size and checksum."""


def verify(run: str | Path) -> Iterator[Verdict]:
    """Of each checkpoint, oldest first; reads all of their bytes. UserError if it is no run."""
    folder = RunFolder.open(run)
    if folder.is_export:
        raise UserError(f"{run} is an export, which has no checkpoints; give the folder of a run.")
    every = folder.recipe().checkpoint.keep_every_steps
    for checkpoint in checkpoints(folder):
        sizes = [path.stat().st_size for path in checkpoint.path.rglob("*") if path.is_file()]
        permanent = every is not None and checkpoint.step % every == 0
        yield Verdict(checkpoint.step, sum(sizes), permanent, checkpoint.damage())
