"""Any dataset as memory-mapped shards: decoded once, then read as fast as the disk is."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from torch.utils import data as torch_data

from rawdiff.data.dataset import Array, Batch, DataInfo, Dataset, Draw, Sample
from rawdiff.data.geometry import Geometry
from rawdiff.data.shards import (
    Chunk,
    Index,
    Part,
    flaw,
    parts_of,
    read_index,
    remove_temporary,
    shard_file,
    write_index,
    write_shard,
    writing,
)
from rawdiff.errors import UserError
from rawdiff.plugins import load_plugin, plugin_name

INDEX = "index.json"
UNFINISHED_INDEX = "index.unfinished.json"
CHUNK_BYTES, CHUNK_LENGTH = 4 << 20, 64  # what a worker reads at a time, at most
MAX_SHARDS = 128  # each mapped file keeps one of the 1024 files that a process may have open


def fingerprint(dataset: Dataset, keys: Collection[str] | None = None) -> str:
    """12 hex digits that change with the dataset's plug-in and its settings (or those `keys`)."""
    settings = dataset.model_dump(mode="json", include=None if keys is None else set(keys))
    identity = [plugin_name("datasets", type(dataset)), settings]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def packed_folder(dataset: Dataset, root: Path, keys: Collection[str] | None = None) -> Path:
    """Where the packed copy of a dataset with exactly these settings (or those `keys`) belongs."""
    return root / f"{plugin_name('datasets', type(dataset))}-{fingerprint(dataset, keys)}"


def find_packed(dataset: Dataset, root: Path) -> PackedDataset | None:
    """The packed copy of a dataset with exactly these settings; None unless it is finished."""
    folder = packed_folder(dataset, root)
    return PackedDataset(path=folder) if (folder / INDEX).is_file() else None


class PackedDataset(Dataset):
    """A packed dataset; samples, info and augmentation are the source's.

    The source's plug-in must be installed, but its files may be gone. Its damaged samples were
    left out. The sizes of all files are checked at the first use.
    """

    path: Path
    """The folder that `rawdiff prepare` wrote."""
    verify: bool = False
    """Reads all files at the first use, and compares them with their checksums."""

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
        shards = np.searchsorted(self._ends, places, side="right")
        rows = places - self._ends[shards]  # from the shard's end: no place outside is a row
        arrays = self._arrays
        return [
            _sample(arrays[shard], row)
            for shard, row in zip(shards.tolist(), rows.tolist(), strict=True)
        ]

    def augment(self, batch: Batch, draw: Draw) -> Batch:
        return self._source.augment(batch, draw)

    def render(self, batch: Batch) -> Batch:
        return self._source.render(batch)

    @property
    def geometry(self) -> Geometry | None:
        return self._source.geometry

    @cached_property
    def index(self) -> Index:
        """Raises UserError if files are missing, cut short or (with `verify`) changed."""
        index = read_index(self._folder / INDEX)
        for shard in index.shards:
            if found := flaw(index, self._folder, shard, checksums=self.verify):
                raise UserError(
                    f"{found}. `rawdiff prepare` with the recipe of its source mends it."
                )
        return index

    @property
    def _folder(self) -> Path:
        return self.path.expanduser()

    @cached_property
    def _source(self) -> Dataset:
        plugin = load_plugin("datasets", self.index.source)
        try:
            return plugin.model_validate(self.index.settings)
        except ValidationError as error:
            raise UserError(
                f"{self.path} was packed from `{self.index.source}` with settings that its "
                f"installed version does not know: {error}. Delete the folder and pack it again "
                "with `rawdiff prepare`."
            ) from error

    @cached_property
    def _ends(self) -> Array:
        """Number of samples in each shard and all before it."""
        return np.cumsum([shard.num_samples for shard in self.index.shards])

    @cached_property
    def _arrays(self) -> list[dict[str, Array]]:
        """Of each shard, [samples in it, …] by the name of the part."""
        return [
            {
                name: _mapped(shard_file(self._folder, name, shard.number), part, shard.num_samples)
                for name, part in self.index.parts.items()
            }
            for shard in self.index.shards
        ]

    def __getstate__(self) -> dict[Any, Any]:
        """Without the mapped files, which each process opens for itself."""
        state = super().__getstate__()
        kept = {name: value for name, value in state["__dict__"].items() if name != "_arrays"}
        return state | {"__dict__": kept}


def _sample(arrays: Mapping[str, Array], row: int) -> Sample:
    parts = {name: array[row] for name, array in arrays.items()}
    if "label" in parts:
        parts["label"] = int(parts["label"])
    return Sample(**parts)


def _mapped(path: Path, part: Part, num_samples: int) -> Array:
    """A file as a read-only array [num_samples, …]."""
    shape, dtype = (num_samples, *part.shape), np.dtype(part.dtype)
    if not part.num_bytes(num_samples):
        return np.empty(shape, dtype)  # an empty file cannot be mapped
    return np.memmap(path, dtype, mode="r", shape=shape).view(np.ndarray)


def pack(
    source: Dataset,
    folder: Path,
    *,
    shard_bytes: int = 1 << 30,
    num_workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PackedDataset:
    """Read every sample of a dataset and write it to shards; damaged samples are left out.

    Shards are larger than `shard_bytes` where there would be more than MAX_SHARDS of them.
    The same call again continues after the last finished shard, and writes anew those whose
    checksums differ. `progress` is told how many samples are done, of how many. Raises UserError
    if a sample cannot be read or is unlike the first, if the folder cannot be written, or if it
    holds another dataset. (A source whose files changed but not their number goes unnoticed.)
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    remove_temporary(folder)
    index = _begun(source, folder) or _plan(source, shard_bytes)
    shards = {
        shard.number: shard
        for shard in index.shards
        if flaw(index, folder, shard, checksums=True) is None
    }
    missing = [number for number in range(index.num_shards) if number not in shards]
    done = sum(len(index.stretch(number)) for number in shards)

    def counted(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        nonlocal done
        for chunk in chunks:
            yield chunk
            done += len(chunk.indices)
            progress(done, index.num_source_samples)

    chunks = counted(_read(source, index, missing, num_workers))
    for number, group in groupby(chunks, lambda chunk: chunk.indices[0] // index.shard_length):
        shards[number] = write_shard(index, folder, number, group)
        write_index(index.with_shards(shards.values()), folder / UNFINISHED_INDEX)
    write_index(index.with_shards(shards.values()), folder / INDEX)
    (folder / UNFINISHED_INDEX).unlink(missing_ok=True)
    return PackedDataset(path=folder)


def _plan(source: Dataset, shard_bytes: int) -> Index:
    if not len(source):
        raise UserError("There are no samples to pack. Give `data.path` a folder with some.")
    parts = parts_of(source[0])
    sample_bytes = sum(part.num_bytes(1) for part in parts.values())
    return Index(
        source=plugin_name("datasets", type(source)),
        settings=source.model_dump(mode="json"),
        fingerprint=fingerprint(source),
        num_source_samples=len(source),
        shard_length=max(shard_bytes // sample_bytes, math.ceil(len(source) / MAX_SHARDS), 1),
        info=source.info,
        parts=parts,
    )


def _begun(source: Dataset, folder: Path) -> Index | None:
    """The index of an earlier call; UserError if that packed something else."""
    path = next((folder / n for n in (UNFINISHED_INDEX, INDEX) if (folder / n).exists()), None)
    if path is None:
        return None
    index = read_index(path)
    if index.fingerprint != fingerprint(source):
        raise UserError(
            f"{folder} holds `{index.source}` packed with the settings {index.settings}, not "
            f"`{plugin_name('datasets', type(source))}` with {source.model_dump(mode='json')}. "
            "Give another folder, or delete this one."
        )
    if index.num_source_samples != len(source):
        raise UserError(
            f"{folder} was packed from {index.num_source_samples} samples, but there are "
            f"{len(source)} now. Delete it to pack them anew."
        )
    return index


def _read(
    source: Dataset, index: Index, shards: Sequence[int], num_workers: int
) -> Iterator[Chunk]:
    """All samples of the given shards in order; a chunk lies in one shard."""
    sample_bytes = sum(part.num_bytes(1) for part in index.parts.values())
    length = max(min(CHUNK_BYTES // sample_bytes, CHUNK_LENGTH), 1)
    stretches = [index.stretch(number) for number in shards]
    loader = torch_data.DataLoader(
        _Chunks(source, index.parts),
        batch_size=None,
        sampler=[s[i : i + length] for s in stretches for i in range(0, len(s), length)],
        num_workers=num_workers,
    )
    for chunk in loader:
        if isinstance(chunk, UserError):
            raise chunk
        yield chunk


class _Chunks(torch_data.Dataset[Chunk | UserError]):
    """What a worker does. Errors are handed over: raised here, they would come with a trace."""

    def __init__(self, source: Dataset, parts: Mapping[str, Part]) -> None:
        self.source, self.parts = source, parts

    def __getitem__(self, indices: range) -> Chunk | UserError:
        try:
            samples = dict(zip(indices, self.source.get_batch(indices), strict=True))
            whole = {i: sample for i, sample in samples.items() if not sample.damaged}
            return Chunk(
                indices=indices,
                damaged=tuple(i for i in indices if i not in whole),
                arrays=self._stacked(whole),
            )
        except UserError as error:
            return error

    def _stacked(self, samples: Mapping[int, Sample]) -> dict[str, Array]:
        for index, sample in samples.items():
            if (found := parts_of(sample)) != self.parts:
                raise UserError(
                    f"Sample {index} consists of {_described(found)}, but the first one of "
                    f"{_described(self.parts)}. Give all samples one shape in the dataset."
                )
        if not samples:
            return {}
        return {
            name: np.stack([getattr(sample, name) for sample in samples.values()])
            for name in self.parts
        }


def _described(parts: Mapping[str, Part]) -> str:
    return ", ".join(
        f"{name} {list(part.shape)} {np.dtype(part.dtype)}" for name, part in parts.items()
    )
