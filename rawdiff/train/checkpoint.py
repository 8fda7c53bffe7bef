"""Checkpoints: complete, published whole or not at all, verified before they are believed.

A checkpoint is a folder `checkpoints/step-00001000` with torch's distributed checkpoint (DCP), the
files that describe the run, and `manifest.json` with the size and SHA-256 of each. It is written
under another name, flushed to the disk, and renamed when it is whole.
"""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from rawdiff.errors import UserError
from rawdiff.files import write_text
from rawdiff.parallel.processes import ALONE, Processes
from rawdiff.train.folder import DESCRIPTION, RunFolder
from rawdiff.train.safe_reader import SafeReader

MANIFEST = "manifest.json"
PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint."""

    path: Path

    @property
    def step(self) -> int:
        return int(self.path.name.removeprefix(PREFIX))

    def damage(self) -> str | None:
        """What is wrong with its files, or None if all are as the manifest says."""
        try:
            manifest = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
            expected: dict[str, dict[str, Any]] = manifest["files"]
        except (OSError, ValueError, KeyError) as error:
            return f"{MANIFEST} cannot be read ({error})"
        for name, facts in expected.items():
            file = self.path / name
            if not file.is_file():
                return f"{name} is missing"
            if (size := file.stat().st_size) != facts["bytes"]:
                return f"{name} has {size} bytes instead of {facts['bytes']}"
            if _sha256(file) != facts["sha256"]:
                return f"{name} has another checksum than when it was written"
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoints(folder: RunFolder) -> list[Checkpoint]:
    """All published checkpoints of a run, oldest first, unverified."""
    found = folder.checkpoints.glob(f"{PREFIX}*")
    return sorted(
        (Checkpoint(p) for p in found if p.name.removeprefix(PREFIX).isdigit()),
        key=lambda checkpoint: checkpoint.step,
    )


def find_checkpoint(
    folder: RunFolder, step: int | None, report: Callable[[str], None]
) -> Checkpoint | None:
    """The newest good checkpoint, or the one of a step; None if the run has none at all.

    Damaged ones are reported and passed over. Raises UserError if the step asked for is not
    there or is damaged, or if all are damaged.
    """
    there = checkpoints(folder)
    if step is not None:
        chosen = [checkpoint for checkpoint in there if checkpoint.step == step]
        if not chosen:
            steps = ", ".join(str(checkpoint.step) for checkpoint in there) or "none"
            raise UserError(f"{folder.path} has no checkpoint of step {step}; there are: {steps}.")
        there = chosen
    for checkpoint in reversed(there):
        damage = checkpoint.damage()
        if damage is None:
            return checkpoint
        report(f"Checkpoint {checkpoint.path} is damaged ({damage}); it is not used.")
    if there:
        raise UserError(
            f"No checkpoint of {folder.path} is whole. Restore one from a copy, or choose another "
            "`run_dir` to begin anew; nothing was deleted."
        )
    return None


def save(
    folder: RunFolder,
    state: dict[str, Any],
    step: int,
    processes: Processes = ALONE,
    *,
    keep_last: int,
    keep_every: int | None,
) -> Checkpoint:
    """Publish a checkpoint, then delete those that are no longer to be kept.

    Each process writes its shards. Raises UserError if it cannot be written (a full disk); earlier
    ones are untouched then.
    """
    final = folder.checkpoints / f"{PREFIX}{step:08d}"
    partial = folder.checkpoints / f".partial-{final.name}"

    def prepare() -> None:
        for stale in folder.checkpoints.glob(".partial-*"):  # left by a kill
            shutil.rmtree(stale, ignore_errors=True)
        partial.mkdir(parents=True)
        _require_space(folder.checkpoints, state)

    def publish() -> None:
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _sync(folder.checkpoints)
        _prune(folder, step, keep_last, keep_every)

    try:
        processes.from_first(prepare)
        _write(folder, state, partial, step, processes)
        processes.from_first(publish)
    except (OSError, UserError, CheckpointException) as error:
        shutil.rmtree(partial, ignore_errors=True)
        kept = [checkpoint.step for checkpoint in checkpoints(folder)]
        raise UserError(
            f"The checkpoint of step {step} could not be written to {folder.checkpoints}: "
            f"{_cause(error)}. Free some space there and give the same command again; it continues "
            f"from {f'step {kept[-1]}' if kept else 'the beginning'}."
        ) from error
    return Checkpoint(final)


def _write(
    folder: RunFolder, state: dict[str, Any], partial: Path, step: int, processes: Processes
) -> None:
    writer = FileSystemWriter(partial, single_file_per_rank=True, sync_files=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp_save(state, storage_writer=writer, no_dist=processes.count == 1)
    if processes.is_first:
        for name in DESCRIPTION:
            shutil.copyfile(folder.path / name, partial / name)
    processes.wait()
    files = sorted(file for file in partial.iterdir())
    mine = files[processes.rank :: processes.count]
    facts = processes.gather({file.name: _facts(file) for file in mine})
    if processes.is_first:
        manifest = {"format": 1, "step": step, "files": functools.reduce(operator.or_, facts)}
        write_text(partial / MANIFEST, json.dumps(manifest, indent=1))
        _sync(partial)


def _facts(file: Path) -> dict[str, Any]:
    """What the manifest says of a file, which is on the disk then."""
    _sync(file)
    return {"bytes": file.stat().st_size, "sha256": _sha256(file)}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tensors(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return [tensor for value in values for tensor in _tensors(value)]


def _require_space(path: Path, state: dict[str, Any]) -> None:
    needed = sum(tensor.nbytes for tensor in _tensors(state))
    if (free := shutil.disk_usage(path).free) < needed:
        raise OSError(f"{needed / 1e9:.2f} GB are needed, but only {free / 1e9:.2f} GB are free")


def _cause(error: BaseException) -> str:
    """The message of the error inside torch's wrapping."""
    if isinstance(error, CheckpointException) and error.failures:
        return str(next(iter(error.failures.values()))[0])
    return str(error)


def _prune(folder: RunFolder, step: int, keep_last: int, keep_every: int | None) -> None:
    """Later ones than the newest are damaged leftovers: they neither count nor are deleted."""
    there = [checkpoint for checkpoint in checkpoints(folder) if checkpoint.step <= step]
    for checkpoint in there[:-keep_last]:
        if not (keep_every and checkpoint.step % keep_every == 0):
            shutil.rmtree(checkpoint.path, ignore_errors=True)


def load(checkpoint: Checkpoint, state: dict[str, Any]) -> dict[str, Any]:
    """Read a checkpoint into the tensors of `state`, which is returned.

    Raises UserError that names the first tensor that the checkpoint lacks or has otherwise.
    """
    saved = SafeReader(checkpoint.path).shapes()
    for name, tensor in _named(state):
        facts = saved.get(name)
        if facts is None or facts.size != tensor.shape:
            found = f"shape {tuple(facts.size)}" if facts else "none of that name"
            raise UserError(
                f"{checkpoint.path} belongs to another model: `{name}` should have shape "
                f"{tuple(tensor.shape)}, found {found}. "
                "Use the recipe that it was made with, or another `run_dir`."
            )
    _read(checkpoint, state)
    return state


def _read(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp_load(
            state,
            storage_reader=SafeReader(checkpoint.path),
            no_dist=not torch.distributed.is_initialized(),
        )


def _named(state: dict[str, Any], prefix: str = "") -> list[tuple[str, torch.Tensor]]:
    pairs = []
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            pairs.append((f"{prefix}{key}", value))
        elif isinstance(value, dict):
            pairs += _named(value, f"{prefix}{key}.")
    return pairs


def load_weights(checkpoint: Checkpoint, weights: str) -> dict[str, torch.Tensor]:
    """The parameters alone: `model`, or the name of an EMA. UserError if there is none such."""
    prefix = "model." if weights == "model" else f"ema.{weights}."
    saved = SafeReader(checkpoint.path).shapes()
    tensors = {
        name.removeprefix(prefix): torch.empty(facts.size, dtype=facts.properties.dtype)
        for name, facts in saved.items()
        if name.startswith(prefix)
    }
    if not tensors:
        last = ".last_layer.linear.bias"
        emas = (n for n in saved if n.startswith("ema.") and n.endswith(last))
        names = sorted(n.removeprefix("ema.").removesuffix(last) for n in emas)
        raise UserError(
            f"{checkpoint.path} has no weights `{weights}`; there are: "
            f"{', '.join(['model', *names])}."
        )
    nested: dict[str, Any] = {"model": tensors}
    if weights != "model":
        nested = {"ema": {weights: tensors}}
    _read(checkpoint, nested)
    return tensors
