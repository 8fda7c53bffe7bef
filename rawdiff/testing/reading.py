"""Are samples the same, whichever process reads them?

`python -m rawdiff.testing.reading` takes a pickled dataset and indices from stdin, reads them as a
worker that was spawned would, and prints a digest of each sample.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from rawdiff.data.dataset import Dataset, Sample
from rawdiff.data.loading import Subset

OTHER_HASHES = "12345"
"""Seed of Python's `hash` of texts, which differs from one process to the next."""


def digest(sample: Sample) -> str:
    """The same for the same values, types and shapes, to the bit."""
    facts = hashlib.sha256()
    for field in dataclasses.fields(Sample):
        value = getattr(sample, field.name)
        if value is not None:
            array = np.asarray(value)
            facts.update(f"{field.name} {array.dtype} {array.shape}".encode())
            facts.update(np.ascontiguousarray(array).tobytes())
    return facts.hexdigest()


def copies(dataset: Dataset) -> Iterator[str]:
    """How it does not come back from a pickle, or from its keys."""
    keys = dataset.model_dump(mode="json")
    if pickle.loads(pickle.dumps(dataset)).model_dump(mode="json") != keys:
        yield "a pickled dataset must come back with the same keys, for worker processes"
    if type(dataset)(**keys).model_dump(mode="json") != keys:
        yield "the dataset must be made again from its own keys, for the run folder"


def by_workers(dataset: Dataset, indices: Sequence[int]) -> Iterator[str]:
    """How two workers, that begin with all that this process has opened, read other samples."""
    subset, few = Subset(dataset, indices), 2
    batches = zip(subset.batches(few), subset.batches(few, num_workers=2), strict=True)
    for number, (alone, by_worker) in enumerate(batches):
        if alone.x.numpy().tobytes() != by_worker.x.numpy().tobytes():
            yield (
                f"a worker reads another sample {indices[number * few]}: what this process has "
                "opened must not be shared; open files once in each process (`os.getpid()`)"
            )
            return


def elsewhere(dataset: Dataset, indices: Sequence[int]) -> Iterator[str]:
    """How a fresh process, with other hashes of texts, reads other samples."""
    if type(dataset).__module__ == "__main__":
        yield "the dataset's class must lie in a module that other processes can import"
        return
    package = pickle.dumps((sys.path, pickle.dumps(dataset), list(indices)))
    done = subprocess.run(
        [sys.executable, "-m", "rawdiff.testing.reading"],
        input=package,
        capture_output=True,
        env=os.environ | {"PYTHONHASHSEED": OTHER_HASHES},
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        yield f"another process cannot read: {lines[-1] if lines else done.returncode}"
        return
    found = json.loads(done.stdout.splitlines()[-1])
    for index, other in zip(indices, found, strict=True):
        if digest(dataset[index]) != other:
            yield (
                f"sample {index} is another in a process of its own: it must not depend on the "
                "time, on `hash`, on the order of a set, nor on what was read before"
            )
            return


def _main() -> None:
    path, pickled, indices = pickle.loads(sys.stdin.buffer.read())
    sys.path[:] = path  # the dataset's module is found where its maker found it
    dataset = pickle.loads(pickled)
    sys.stdout.write(json.dumps([digest(sample) for sample in dataset.get_batch(indices)]) + "\n")


if __name__ == "__main__":
    _main()
