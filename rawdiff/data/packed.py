"""Any dataset as memory-mapped shards: decoded once, read at the speed of the disk.

A packed folder holds `index.json` and, for shard 0, 1, …, one file for each part of a sample:
`x-00000.bin`, `label-00000.bin`, …, plain arrays [samples in the shard, …] in C order. The index
gives their dtype and shape, the checksums, and the dataset that was packed. It is published last,
so a folder that has one is whole.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, ValidationError

from rawdiff.data.dataset import Array, Batch, DataInfo, Dataset, Draw, Sample
from rawdiff.errors import UserError
from rawdiff.plugins import load_plugin, plugin_name
from rawdiff.settings import Settings

INDEX = "index.json"


class Part(Settings):
    """One part of every sample (`x`, `label`, …): its dtype as numpy writes it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def num_bytes(self, num_samples: int) -> int:
        return num_samples * np.dtype(self.dtype).itemsize * math.prod(self.shape)


class Shard(Settings):
    """`num_samples` packed from the source's samples that begin at `first`.

    `damaged` lists, by their index in the source, those that were left out. `sha256` has the
    checksum of the file of each part.
    """

    first: int
    num_samples: int
    damaged: tuple[int, ...]
    sha256: dict[str, str]


class Index(Settings):
    """What a packed folder holds, and where it comes from."""

    model_config = ConfigDict(allow_inf_nan=True)  # an open range of values ends at infinity

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

    def file(self, folder: Path, part: str, shard: Shard) -> Path:
        return folder / f"{part}-{shard.first // self.shard_length:05d}.bin"


def read_index(path: Path) -> Index:
    """UserError if it is not there or cannot be understood."""
    try:
        return Index.model_validate(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: packing that folder was not finished, or never begun. "
            "`rawdiff prepare` finishes it."
        ) from error
    except (OSError, ValidationError, ValueError) as error:
        raise UserError(
            f"{path} cannot be understood: {error}. Delete its folder and run `rawdiff prepare` "
            "again, with this version of rawdiff."
        ) from error


def flaw(index: Index, folder: Path, shard: Shard, *, checksums: bool) -> str | None:
    """What is wrong with the files of a shard; None if they are as they were packed."""
    for name, part in index.parts.items():
        path = index.file(folder, name, shard)
        expected = part.num_bytes(shard.num_samples)
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != expected:
            return f"{path} has {path.stat().st_size} bytes instead of {expected}"
        if checksums and file_checksum(path) != shard.sha256[name]:
            return f"{path} is not what was packed: its checksum differs"
    return None


def file_checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(dataset: Dataset) -> str:
    """12 hex digits that change with the dataset's plug-in or any of its settings."""
    identity = [plugin_name("datasets", type(dataset)), dataset.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def packed_folder(dataset: Dataset, root: Path) -> Path:
    """Where the packed copy of a dataset with these settings belongs."""
    return root / f"{plugin_name('datasets', type(dataset))}-{fingerprint(dataset)}"


def find_packed(dataset: Dataset, root: Path) -> PackedDataset | None:
    """The packed copy of a dataset with exactly these settings, if it is there and finished."""
    folder = packed_folder(dataset, root)
    return PackedDataset(path=folder) if (folder / INDEX).is_file() else None


class PackedDataset(Dataset):
    """A dataset that `rawdiff prepare` packed; its samples, info and augmentation are the source's.

    The source's package must be installed, but its files may be gone. Damaged samples were left
    out. Sizes of all files are checked at the first use, their checksums too with `verify`.
    """

    path: Path
    verify: bool = False

    @cached_property
    def index(self) -> Index:
        folder = self.path.expanduser()
        index = read_index(folder / INDEX)
        for shard in index.shards:
            if found := flaw(index, folder, shard, checksums=self.verify):
                raise UserError(f"{found}. Run `rawdiff prepare` again: it mends damaged shards.")
        return index

    @property
    def info(self) -> DataInfo:
        return self.index.info

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Sample:
        return self.get_batch([index])[0]

    def get_batch(self, indices: Sequence[int]) -> list[Sample]:
        """Samples that are views of the files: nothing is read before it is used."""
        places = np.asarray(indices, dtype=np.int64)
        if len(places) and not 0 <= places.min() <= places.max() < len(self):
            raise IndexError(f"samples {indices} of {len(self)}")
        shards = np.searchsorted(self._ends, places, side="right")
        rows = places - (self._ends[shards] - self._lengths[shards])
        arrays = self._arrays
        return [
            Sample(**{name: array[row] for name, array in arrays[shard].items()})
            for shard, row in zip(shards.tolist(), rows.tolist(), strict=True)
        ]

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        return self._source.augment(batch, draw)

    @cached_property
    def _source(self) -> Dataset:
        source = load_plugin("datasets", self.index.source)
        try:
            return source.model_validate(self.index.settings)
        except ValidationError as error:
            raise UserError(
                f"{self.path} was packed from `{self.index.source}` with settings that the "
                f"installed version does not know: {error}. Run `rawdiff prepare` again."
            ) from error

    @cached_property
    def _lengths(self) -> Array:
        return np.array([shard.num_samples for shard in self.index.shards], dtype=np.int64)

    @cached_property
    def _ends(self) -> Array:
        return self._lengths.cumsum()

    @cached_property
    def _arrays(self) -> list[dict[str, Array]]:
        """Each shard's arrays by the name of their part."""
        folder = self.path.expanduser()
        return [
            {
                name: _mapped(self.index.file(folder, name, shard), part, shard.num_samples)
                for name, part in self.index.parts.items()
            }
            for shard in self.index.shards
        ]

    def __getstate__(self) -> dict[Any, Any]:
        """Without the mapped files, which each process opens for itself."""
        state = super().__getstate__()
        return state | {"__dict__": {k: v for k, v in state["__dict__"].items() if k != "_arrays"}}


def _mapped(path: Path, part: Part, num_samples: int) -> Array:
    """The file as a read-only array [num_samples, …]."""
    shape, dtype = (num_samples, *part.shape), np.dtype(part.dtype)
    if not part.num_bytes(num_samples):
        return np.empty(shape, dtype)  # nothing cannot be mapped
    return np.memmap(path, dtype, mode="r", shape=shape).view(np.ndarray)
