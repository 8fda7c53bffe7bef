"""The files of a packed folder: what they hold, whether they are whole, and how they are written.

For shard 0, 1, … there is one file for each part of a sample: `x-00000.bin`, `label-00000.bin`, …,
plain arrays [samples in the shard, …] in C order. `index.json` gives their dtype and shape, their
checksums, and the dataset that was packed. It is published last: a folder that has one is whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict

from rawdiff.data.dataset import Array, DataInfo, Sample
from rawdiff.errors import UserError
from rawdiff.files import write_text
from rawdiff.settings import Settings

PART_NAMES = ("x", "label", "scalars", "context", "weight", "place")


class Part(Settings):
    """One part of every sample: its dtype as numpy writes it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def num_bytes(self, num_samples: int) -> int:
        return num_samples * np.dtype(self.dtype).itemsize * math.prod(self.shape)


class Shard(Settings):
    """One stretch of the source's samples.

    `damaged` lists those that were left out, by their index in the source; `sha256` has the
    checksum of the file of each part.
    """

    number: int
    num_samples: int
    damaged: tuple[int, ...]
    sha256: dict[str, str]


class Index(Settings):
    """What a packed folder holds, and where it comes from."""

    model_config = ConfigDict(allow_inf_nan=True)  # a range of values may be open

    format_version: Literal[1] = 1
    source: str
    settings: dict[str, Any]
    fingerprint: str
    num_source_samples: int
    shard_length: int
    info: DataInfo
    parts: dict[str, Part]
    shards: tuple[Shard, ...] = ()

    @property
    def damaged(self) -> tuple[int, ...]:
        """Indices in the source of all samples that were left out."""
        return tuple(index for shard in self.shards for index in shard.damaged)

    @property
    def num_shards(self) -> int:
        return math.ceil(self.num_source_samples / self.shard_length)

    def stretch(self, number: int) -> range:
        """The source's samples that belong to a shard, damaged ones among them."""
        first = number * self.shard_length
        return range(first, min(first + self.shard_length, self.num_source_samples))

    def with_shards(self, shards: Iterable[Shard]) -> Index:
        ordered = sorted(shards, key=lambda shard: shard.number)
        return self.model_copy(update={"shards": tuple(ordered)})


@dataclass(frozen=True)
class Chunk:
    """Samples of a source, read and stacked by part without the damaged ones; in their order."""

    indices: Sequence[int]
    damaged: tuple[int, ...]
    arrays: Mapping[str, Array]


def read_index(path: Path) -> Index:
    """UserError if it is not there or cannot be understood."""
    try:
        return Index.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: packing into that folder was not finished, or never begun. "
            "`rawdiff prepare` with the recipe of its source packs it."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be understood: {error}. Delete its folder and pack it again with "
            "`rawdiff prepare`."
        ) from error


def write_index(index: Index, path: Path) -> None:
    """All or nothing: readers see the old index or the new one."""
    write_text(path, json.dumps(index.model_dump(), indent=1))


def parts_of(sample: Sample) -> dict[str, Part]:
    """The parts that a sample brings."""
    values = {name: getattr(sample, name) for name in PART_NAMES}
    arrays = {name: np.asarray(value) for name, value in values.items() if value is not None}
    return {name: Part(dtype=array.dtype.str, shape=array.shape) for name, array in arrays.items()}


def shard_file(folder: Path, part: str, number: int) -> Path:
    return folder / f"{part}-{number:05d}.bin"


def flaw(index: Index, folder: Path, shard: Shard, *, checksums: bool) -> str | None:
    """What is wrong with the files of a shard; None if they are as they were packed."""
    for name, part in index.parts.items():
        path = shard_file(folder, name, shard.number)
        expected = part.num_bytes(shard.num_samples)
        if not path.is_file():
            return f"{path} is missing"
        if (found := path.stat().st_size) != expected:
            return f"{path} has {found} bytes instead of {expected}"
        if checksums and _checksum(path) != shard.sha256[name]:
            return f"{path} is not what was packed: its checksum differs"
    return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_shard(index: Index, folder: Path, number: int, chunks: Iterable[Chunk]) -> Shard:
    """Write all chunks of one shard; its files appear when they are whole.

    Raises UserError if they cannot be written; what was begun is removed.
    """
    checksums = {name: hashlib.sha256() for name in index.parts}
    num_samples, damaged = 0, list[int]()
    with ExitStack() as stack:
        files = {}
        for name in index.parts:
            temporary = stack.enter_context(_temporary(shard_file(folder, name, number)))
            with writing(folder):
                files[name] = stack.enter_context(temporary.open("wb", buffering=0))
        for chunk in chunks:
            damaged += chunk.damaged
            num_samples += len(chunk.indices) - len(chunk.damaged)
            for name, values in chunk.arrays.items():
                data = memoryview(values.tobytes())
                checksums[name].update(data)
                with writing(folder):
                    while data:  # a nearly full disk takes a part of them before it says so
                        data = data[files[name].write(data) :]
        with writing(folder):
            for name, file in files.items():
                os.fsync(file.fileno())
                Path(file.name).replace(shard_file(folder, name, number))
    return Shard(
        number=number,
        num_samples=num_samples,
        damaged=tuple(damaged),
        sha256={name: checksum.hexdigest() for name, checksum in checksums.items()},
    )


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A file until it is renamed to `path`; two processes never write into the same one."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporary(folder: Path) -> None:
    """What a killed process left behind."""
    with writing(folder):
        for path in folder.glob("*.tmp"):
            path.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns a full disk, or any other reason why writing failed, into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write to {folder}: {error.strerror}. Make room there or mend its rights, "
            "and run the same command again: it keeps the shards that are finished."
        ) from error
