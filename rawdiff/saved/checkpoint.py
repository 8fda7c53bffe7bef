"""Checkpoints: which there are, whether they are whole, and what they hold.

A checkpoint is a folder `checkpoints/step-00001000` with torch's distributed checkpoint (DCP), the
files that describe the run, and `manifest.json` with the size and SHA-256 of each. `saving` writes
them.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load

from rawdiff.errors import UserError
from rawdiff.parallel.apply import named_tensors
from rawdiff.saved.folder import RunFolder
from rawdiff.saved.safe_reader import SafeReader

MANIFEST = "manifest.json"
PREFIX = "step-"
REPLACED = ".replaced-"  # moved out of the way by one of the same step; counts until that is there
MOST_THREADS = 8


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint."""

    path: Path

    @property
    def step(self) -> int:
        return int(self.path.name.removeprefix(REPLACED).removeprefix(PREFIX))

    def damage(self, *, sizes_only: bool = False) -> str | None:
        """What is wrong with its files, or None if all are as the manifest says."""
        try:
            manifest = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
            expected: dict[str, dict[str, Any]] = manifest["files"]
        except FileNotFoundError:
            return f"{MANIFEST} is missing"
        except (OSError, ValueError, KeyError) as error:
            return f"{MANIFEST} cannot be read ({error})"
        for name, facts in expected.items():
            file = self.path / name
            if not file.is_file():
                return f"{name} is missing"
            if (size := file.stat().st_size) != facts["bytes"]:
                return f"{name} has {size} bytes instead of {facts['bytes']}"
        if sizes_only:
            return None
        with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS)) as threads:
            found = list(threads.map(sha256, (self.path / name for name in expected)))
        for (name, facts), digest in zip(expected.items(), found, strict=True):
            if digest != facts["sha256"]:
                return f"{name} has another checksum than when it was written"
        return None


def sha256(path: Path) -> str | None:
    """Of a file's bytes; None where they cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def checkpoints(folder: RunFolder) -> list[Checkpoint]:
    """All published checkpoints of a run, oldest first, unverified."""
    found: dict[int, Checkpoint] = {}
    for start in (f"{REPLACED}{PREFIX}", PREFIX):
        for path in folder.checkpoints.glob(f"{start}*"):
            if path.name.removeprefix(start).isdigit():
                one = Checkpoint(path)
                found[one.step] = one
    return [found[step] for step in sorted(found)]


def checkpoint_of(folder: RunFolder, step: int) -> Checkpoint:
    """The checkpoint of a step, unverified. UserError if there is none."""
    there = {checkpoint.step: checkpoint for checkpoint in checkpoints(folder)}
    if step not in there:
        steps = ", ".join(map(str, there)) or "none"
        raise UserError(f"{folder.path} has no checkpoint of step {step}; there are: {steps}.")
    return there[step]


def find_checkpoint(
    folder: RunFolder, step: int | None, report: Callable[[str], None]
) -> Checkpoint | None:
    """The newest good checkpoint, or the one of a step; None if the run has none at all.

    Damaged ones are reported and passed over. Raises UserError if the step asked for is not
    there or is damaged, or if all are damaged.
    """
    there = checkpoints(folder) if step is None else [checkpoint_of(folder, step)]
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


def load(checkpoint: Checkpoint, state: dict[str, Any]) -> dict[str, Any]:
    """Read a checkpoint into the tensors of `state`, which is returned.

    Raises UserError that names the first tensor that the checkpoint lacks or has otherwise.
    """
    saved = SafeReader(checkpoint.path).shapes()
    for name, tensor in named_tensors(state).items():
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
