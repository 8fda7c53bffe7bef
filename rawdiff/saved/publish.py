"""From written shards to a checkpoint: published whole or not at all, and then pruned.

Shards are written into a folder `.partial-…` of a name of its own: what a killed run's processes
still write can never mix with what its successor writes. Each process flushes and hashes its own
files; the first one adds the manifest and renames the folder. Old checkpoints go only after the
new one was proven. At every moment of this a kill leaves a whole checkpoint.
"""

from __future__ import annotations

import functools
import json
import operator
import shutil
import uuid
from pathlib import Path
from typing import Any

from rawdiff.files import sync, write_text
from rawdiff.parallel.apply import named_tensors
from rawdiff.parallel.processes import Processes
from rawdiff.recipe import CheckpointSettings
from rawdiff.saved.checkpoint import MANIFEST, PREFIX, REPLACED, Checkpoint, checkpoints, sha256
from rawdiff.saved.folder import DESCRIPTION, RunFolder

State = dict[str, Any]

PARTIAL, DELETED = ".partial-", ".deleted-"


def clear_leftovers(folder: RunFolder) -> None:
    """What a killed run left: folders half written or half deleted, and one moved aside."""
    for start in (PARTIAL, DELETED):
        for stale in folder.checkpoints.glob(f"{start}*"):
            shutil.rmtree(stale, ignore_errors=True)
    for aside in folder.checkpoints.glob(f"{REPLACED}*"):
        final = aside.with_name(aside.name.removeprefix(REPLACED))
        if final.exists():
            delete(aside)
        else:
            aside.rename(final)


def make_partial(folder: RunFolder, step: int, state: State) -> Path:
    """A new folder with what describes the run. Raises OSError if there is no space for the state.

    Called by the first process.
    """
    needed = sum(tensor.nbytes for tensor in named_tensors(state).values())
    folder.checkpoints.mkdir(exist_ok=True)
    if (free := shutil.disk_usage(folder.checkpoints).free) < needed:
        raise OSError(f"{needed / 1e9:.3g} GB are needed, but only {free / 1e9:.3g} GB are free")
    partial = folder.checkpoints / f"{PARTIAL}{_name(step)}-{uuid.uuid4().hex[:12]}"
    partial.mkdir()
    try:
        for name in DESCRIPTION:
            shutil.copyfile(folder.path / name, partial / name)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return partial


def commit(
    folder: RunFolder, partial: Path, step: int, processes: Processes, settings: CheckpointSettings
) -> None:
    """Make a checkpoint of the files in `partial`, and delete those that are no longer to be kept.

    Called by all processes together. Raises FailedTogetherError if it cannot be done.
    """
    facts = processes.all_succeed(lambda: describe(partial, processes))

    def complete() -> None:
        write_manifest(partial, step, functools.reduce(operator.or_, facts))
        if (damage := Checkpoint(partial).damage(sizes_only=True)) is not None:
            raise OSError(f"it is not whole on the disk ({damage})")
        publish(folder, partial, step)
        prune(folder, step, settings)

    processes.all_succeed(lambda: complete() if processes.is_first else None)


def describe(partial: Path, processes: Processes) -> dict[str, Any]:
    """What the manifest says of this process's own files, which are on the disk then."""
    others = tuple(f"__{rank}_" for rank in range(processes.count) if rank != processes.rank)
    shards = (f"__{processes.rank}_",)
    mine = [
        file
        for file in sorted(partial.iterdir())
        if file.name.startswith(shards) or (processes.is_first and not file.name.startswith(others))
    ]
    for file in mine:
        sync(file)
    return {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in mine}


def write_manifest(partial: Path, step: int, facts: dict[str, Any]) -> None:
    manifest = {"format": 1, "step": step, "files": facts}
    write_text(partial / MANIFEST, json.dumps(manifest, indent=1))
    sync(partial)


def publish(folder: RunFolder, partial: Path, step: int) -> None:
    """Give a whole folder its name. One that has it steps aside until then, and stays valid."""
    final = folder.checkpoints / _name(step)
    aside = final.with_name(f"{REPLACED}{final.name}")
    if final.exists():
        if aside.exists():
            delete(aside)
        final.rename(aside)
    partial.rename(final)
    sync(folder.checkpoints)
    if aside.exists():
        delete(aside)


def prune(folder: RunFolder, step: int, settings: CheckpointSettings) -> None:
    """Delete all but the newest `keep_last` and those at multiples of `keep_every_steps`.

    Later ones than `step` are damaged leftovers: they neither count nor are deleted.
    """
    every = settings.keep_every_steps
    there = [checkpoint for checkpoint in checkpoints(folder) if checkpoint.step <= step]
    for checkpoint in there[: -settings.keep_last]:
        if not (every and checkpoint.step % every == 0):
            delete(checkpoint.path)


def delete(path: Path) -> None:
    """At once as far as others see; a kill leaves nothing that looks like a checkpoint."""
    gone = path.with_name(f"{DELETED}{path.name.lstrip('.')}-{uuid.uuid4().hex[:12]}")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _name(step: int) -> str:
    return f"{PREFIX}{step:08d}"
