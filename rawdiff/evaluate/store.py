"""Tensors of numbered samples on disk, batch by batch: what is there is never computed again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.files import atomic, locked, write_text
from rawdiff.parallel.processes import ALONE, Processes

FACTS_FILE = "settings.json"

Make = Callable[[Sequence[range]], Iterator[Mapping[str, Tensor]]]
"""For each range of samples in turn, tensors [n, …] by name with one row for each sample."""


class Store:
    """A folder in `parent`, named by a hash of `facts`: all that the tensors depend on.

    One file holds `batch_size` samples. A file is there whole or not at all, so that a process
    that is killed loses one batch at most; other facts lead to another folder.
    """

    def __init__(
        self, parent: Path, facts: Mapping[str, Any], num_samples: int, batch_size: int
    ) -> None:
        self.num_samples, self.batch_size = num_samples, batch_size
        counts = {"num_samples": num_samples, "batch_size": batch_size}
        self.facts = json.dumps(counts | dict(facts), indent=1, sort_keys=True)
        self.path = parent / hashlib.sha256(self.facts.encode()).hexdigest()[:16]

    def missing(self) -> list[range]:
        """The batches that have no file yet, in order."""
        starts = range(0, self.num_samples, self.batch_size)
        batches = [range(i, min(i + self.batch_size, self.num_samples)) for i in starts]
        return [batch for batch in batches if not self._file(batch.start).is_file()]

    def num_there(self) -> int:
        """How many samples have their tensors."""
        return self.num_samples - sum(map(len, self.missing()))

    def fill(
        self,
        make: Make,
        progress: Callable[[int, int], None] | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """Have every missing batch made, and write each as soon as it is there.

        The processes take the batches in turn; all are there when any of them comes back. Raises
        UserError if another call fills the same folder.
        """
        if processes.from_first(lambda: not self.missing()):
            return
        with self._held() if processes.is_first else nullcontext():
            missing = processes.from_first(self.missing)
            if progress and (done := self.num_there()):
                progress(done, self.num_samples)
            own = missing[processes.rank :: processes.count]
            for batch, tensors in zip(own, make(own), strict=True):
                self._write(batch, tensors)
                if progress:
                    progress(self.num_there(), self.num_samples)
            processes.wait()

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            write_text(self.path / FACTS_FILE, self.facts + "\n")
            yield

    def read(self) -> dict[str, Tensor]:
        """All samples' tensors [num_samples, …] on the CPU. UserError for a damaged file."""
        parts = [self._read(start) for start in range(0, self.num_samples, self.batch_size)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, start: int) -> Path:
        return self.path / f"batch-{start:08d}.safetensors"

    def _write(self, batch: range, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            assert len(tensor) == len(batch), f"{name} has {len(tensor)} rows of {len(batch)}"
        with atomic(self._file(batch.start)) as file:
            file.write(save({name: x.detach().cpu().contiguous() for name, x in tensors.items()}))

    def _read(self, start: int) -> dict[str, Tensor]:
        path = self._file(start)
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{path} cannot be read: {error}. Delete it; the same command makes it again."
            ) from error


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A SHA-256 of names and values; the same wherever the tensors are."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
