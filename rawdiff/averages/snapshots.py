"""Snapshots of the power averages, from which an average of any width can be had later.

RUN/averages/step-00001000.safetensors holds all power averages of one step in float32, as tensors
`power_0.1/<parameter>`: 4 bytes for each parameter and width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rawdiff.averages.ema import EMA
from rawdiff.errors import UserError
from rawdiff.files import atomic
from rawdiff.parallel.apply import whole
from rawdiff.parallel.processes import ALONE, Processes
from rawdiff.recipe import EMASettings
from rawdiff.saved import checkpoint
from rawdiff.saved.folder import RunFolder

PREFIX, SUFFIX = "step-", ".safetensors"


@dataclass(frozen=True)
class Snapshot:
    """All power averages of one step."""

    path: Path

    @property
    def step(self) -> int:
        return int(self.path.name.removeprefix(PREFIX).removesuffix(SUFFIX))

    @cached_property
    def widths(self) -> tuple[float, ...]:
        try:
            with safe_open(self.path, framework="pt") as file:
                return tuple(json.loads(file.metadata()["rawdiff"])["widths"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def tensors(self, width: float) -> Iterator[tuple[str, Tensor]]:
        """Parameters by name, one after another, so that one at a time is in memory."""
        prefix = f"{EMASettings(power=width).name}/"
        try:
            with safe_open(self.path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    if name.startswith(prefix):
                        yield name.removeprefix(prefix), file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> UserError:
        return UserError(
            f"{self.path} is damaged ({error}). Delete it: other snapshots stand in for it."
        )


def snapshots(folder: RunFolder) -> list[Snapshot]:
    """All snapshots of a run, oldest first."""
    found = (Snapshot(path) for path in folder.averages.glob(f"{PREFIX}*{SUFFIX}"))
    return sorted(found, key=lambda snapshot: snapshot.step)


def save_snapshot(
    folder: RunFolder,
    emas: Sequence[EMA],
    step: int,
    batch_size: int,
    processes: Processes = ALONE,
) -> None:
    """Publish the power averages of a step; the same step always gives the same bytes.

    Raises UserError if it cannot be written (a full disk); checkpoints are untouched then.
    """
    powers = {ema.settings.power: ema for ema in emas if ema.settings.power is not None}
    tensors = {}
    for ema in powers.values():
        for name, tensor in ema.weights.items():
            gathered = whole(tensor)  # by all, one after another; kept by one
            if processes.is_first:
                tensors[f"{ema.settings.name}/{name}"] = gathered.cpu().float()
    if not processes.is_first:
        return
    # One entry: the order of several is not the same in every process.
    facts = json.dumps({"step": step, "batch_size": batch_size, "widths": list(powers)})
    try:
        with atomic(folder.averages / f"{PREFIX}{step:08d}{SUFFIX}") as file:
            file.write(save(tensors, {"rawdiff": facts}))
    except UserError as error:
        kept = [one.step for one in checkpoint.checkpoints(folder)]
        raise UserError(
            f"The averages of step {step} could not be written. {error} Then give the same command "
            f"again; it continues from {f'step {kept[-1]}' if kept else 'the beginning'}."
        ) from error


def drop_snapshots(folder: RunFolder, after: int) -> None:
    """Delete those of later steps: the run that continues there writes them again."""
    for snapshot in snapshots(folder):
        if snapshot.step > after:
            snapshot.path.unlink()
