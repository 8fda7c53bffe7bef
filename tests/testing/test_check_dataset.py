"""A dataset that breaks a promise is told which, and how to mend it."""

import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field, PrivateAttr

from rawdiff.adapter import GridAdapter
from rawdiff.cli.main import main
from rawdiff.data.dataset import DataInfo, Dataset, Sample
from rawdiff.testing import BrokenPromiseError, check_dataset
from rawdiff.testing.dataset import PROMISES, judge_dataset

SHAPE = (2, 4, 6)


class Good(Dataset):
    """Keeps every promise; each of the others breaks one."""

    num: int = 10
    path: Path | None = None

    @property
    def info(self):
        return DataInfo(SHAPE, ("a", "b"), ("m", "K"))

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        x = np.random.default_rng(index).normal(size=SHAPE).astype(np.float32)
        x[0, 1, index % 6] = np.nan
        return Sample(x)


class OfInfo(Good):
    """With something else in `info`."""

    said: dict[str, Any] = Field(default_factory=dict)

    @property
    def info(self):
        return replace(super().info, **self.said)


class OfSample(Good):
    """With something else in each sample, or `x` made another by a function."""

    @staticmethod
    def changed(x, index):
        return x

    def __getitem__(self, index):
        found = self.changed(super().__getitem__(index).x, index)
        return found if isinstance(found, Sample) else Sample(found)


class FewerInfo(Good):
    @property
    def info(self):
        return {"shape": SHAPE}


class OtherInfo(Good):
    @property
    def info(self):
        return replace(super().info, units=("m", f"{time.perf_counter_ns()}"))


class Shrinking(Good):
    def __getitem__(self, index):
        return Sample(super().__getitem__(index).x[:, : 4 - index % 2])


class SomeLabels(OfSample):
    @staticmethod
    def changed(x, index):
        return Sample(x, weight=None if index else np.ones(SHAPE))


class MixedTypes(OfSample):
    @staticmethod
    def changed(x, index):
        return x.astype(np.float64) if index else x


class Complex(OfSample):
    @staticmethod
    def changed(x, index):
        return x.astype(np.complex64)


class ATensor(OfSample):
    @staticmethod
    def changed(x, index):
        return torch.from_numpy(x)


class Infinite(OfSample):
    @staticmethod
    def changed(x, index):
        return np.nan_to_num(x, nan=np.inf)


class Filled(OfSample):
    @staticmethod
    def changed(x, index):
        return np.nan_to_num(x, nan=1e20)


class Restless(OfSample):
    @staticmethod
    def changed(x, index):
        return x + np.float32(random.random())


class OtherTogether(Good):
    def get_batch(self, indices):
        return [self[index] for index in sorted(indices, reverse=True)]


class Steep(OfSample):
    @staticmethod
    def changed(x, index):
        return 1e6 + x.astype(np.float64) * 1e-3


class Empty(OfSample):
    @staticmethod
    def changed(x, index):
        x[1] = np.nan
        return x


class OwnChanges(Good):
    def augment(self, batch, draw):
        return replace(batch, x=batch.x + torch.rand(1))


class FlipAll(Good):
    def augment(self, batch, draw):
        return replace(batch, x=batch.x * draw(1)[0])


class Centred(Good):
    def render(self, batch):
        return replace(batch, x=batch.x - batch.x.nanmean(0))


class Coarse(Good):
    def render(self, batch):
        return replace(batch, x=batch.x[..., ::2])


class Forgetful(Good):
    def __reduce__(self):
        return Good, ()


class Derived(Good):
    num: int = 5

    def model_post_init(self, context):
        object.__setattr__(self, "num", self.num + 1)


class SharedFile(Good):
    """One open file for all processes, whose place in it they share, too."""

    _file: Any = PrivateAttr(None)

    def __getitem__(self, index):
        if self._file is None:
            object.__setattr__(self, "_process", os.getpid())
            self._file = self.path.open("rb")
        own = os.getpid() == self.__dict__.get("_process", 0)
        return Sample(super().__getitem__(index).x + np.float32(not own))

    def __getstate__(self):
        return super().__getstate__() | {"__pydantic_private__": {"_file": None}}


class ByHash(OfSample):
    @staticmethod
    def changed(x, index):
        return x + np.float32(hash(f"sample {index}") % 97)


BROKEN: list[tuple[Any, dict[str, Any], str, str]] = [
    (FewerInfo, {}, "info", "must be a DataInfo"),
    (OfInfo, {"said": {"shape": (2,)}}, "info", "one to four dims"),
    (OfInfo, {"said": {"channels": ("a",)}}, "info", "1 `channels` for 2 channels"),
    (OfInfo, {"said": {"channels": ("a", "a")}}, "info", "called the same"),
    (OfInfo, {"said": {"writer": "wav"}}, "info", "none of the writers"),
    (OfInfo, {"said": {"coordinates": {"time": np.arange(3)}}}, "info", "kept with a run"),
    (OtherInfo, {}, "info", "same each time"),
    (Good, {"num": 0}, "length", "no samples"),
    (Shrinking, {}, "samples", "has shape (2, 3, 6) instead of (2, 4, 6)"),
    (SomeLabels, {}, "samples", "must agree in the shape of `weight`"),
    (OfInfo, {"said": {"class_names": ("cat",)}}, "samples", "has label None"),
    (MixedTypes, {}, "samples", "has dtype float64, the first one float32"),
    (Complex, {}, "samples", "of real numbers"),
    (ATensor, {}, "samples", "a NumPy array"),
    (Infinite, {}, "missing", "infinite values; NaN marks"),
    (Filled, {}, "missing", "holds 1e+20 in 2.1% of its values"),
    (OfInfo, {"said": {"value_range": (0.0, 9.0)}}, "missing", "outside of `value_range`"),
    (Restless, {}, "again", "read again is another"),
    (OtherTogether, {}, "again", "from `get_batch` is another"),
    (Steep, {}, "standardized", "Subtract what samples have in common"),
    (Empty, {}, "standardized", "Channels [1] of `x` have no value"),
    (OwnChanges, {}, "augmented", "come from `draw` alone"),
    (FlipAll, {}, "augmented", "others in its batch"),
    (Centred, {}, "rendered", "others in its batch"),
    (Coarse, {}, "rendered", "learned as [2, 4, 3], but `info.shape` is (2, 4, 6)"),
    (Forgetful, {"num": 7}, "copies", "come back with the same keys"),
    (Derived, {}, "copies", "made again from its own keys"),
    (SharedFile, {"path": Path(__file__)}, "workers", "once in each process"),
    (ByHash, {}, "elsewhere", "must not depend on the time, on `hash`"),
]


@pytest.mark.parametrize(
    ("dataset", "keys", "promise", "cure"),
    BROKEN,
    ids=[f"{dataset.__name__}-{promise}-{i}" for i, (dataset, _, promise, _) in enumerate(BROKEN)],
)
def test_a_broken_promise_is_named_with_its_cure(dataset, keys, promise, cure, monkeypatch) -> None:
    monkeypatch.setattr("rawdiff.testing.dataset.SPEED_SECONDS", 0.0)
    last = [one.name for one in PROMISES].index(promise) + 1
    monkeypatch.setattr("rawdiff.testing.dataset.PROMISES", PROMISES[:last])  # no slow ones
    found = {verdict.name: verdict for verdict in judge_dataset(dataset(**keys))}
    assert cure in " ".join(found[promise].breaches)
    assert [name for name, verdict in found.items() if verdict.breaches] == [promise]


class OnlyHalf(GridAdapter):
    def unpatchify(self, patches, shape):
        return super().unpatchify(patches, shape).half().to(patches.dtype)


class Nowhere(GridAdapter):
    def sample_positions(self, place, names):
        return place.flatten(1)[:, :3, None].expand(-1, -1, 2) * torch.inf


class Placed(Good):
    @property
    def info(self):
        return replace(super().info, place_names=("row",))

    def __getitem__(self, index):
        return replace(super().__getitem__(index), place=np.ones((1, 4, 6), dtype=np.float32))


@pytest.mark.parametrize(
    ("dataset", "adapter", "cure"),
    [
        (Good, OnlyHalf(patch_size=(2, 2)), "do not come back from their patches"),
        (Good, GridAdapter(patch_size=(3, 2)), "cannot be cut into patches of 3"),
        (Placed, Nowhere(patch_size=(2, 2)), "`sample_positions` must be [10, 6, 2]"),
        (Placed, Nowhere(patch_size=(4, 2)), "`sample_positions` must be finite"),
    ],
)
def test_an_adapter_that_does_not_fit_the_samples_is_told(
    dataset, adapter, cure, monkeypatch
) -> None:
    monkeypatch.setattr("rawdiff.testing.dataset.PROMISES", PROMISES[:9])
    found = {verdict.name: verdict for verdict in judge_dataset(dataset(), adapter)}
    assert cure in " ".join(found["cut"].breaches)


def test_every_promise_has_a_dataset_that_breaks_it() -> None:
    told = {promise for _, _, promise, _ in BROKEN} | {"cut"}
    assert told == {promise.name for promise in PROMISES} - {"speed"}  # which is only measured


def test_a_good_dataset_keeps_all_of_them_and_says_how_fast_it_is() -> None:
    verdicts = judge_dataset(Good(), GridAdapter(patch_size=(2, 2)))
    assert [verdict.name for verdict in verdicts if not verdict.kept] == []
    notes = {verdict.name: verdict.notes for verdict in verdicts}
    assert "samples a second" in notes["speed"][0]
    assert notes["again"] == ()


def test_a_check_in_a_test_raises_with_all_that_is_broken() -> None:
    with pytest.raises(BrokenPromiseError, match=r"(?s)Restless:\n  - again: sample 0 read again"):
        check_dataset(Restless())


def test_the_command_prints_a_table_and_ends_with_1_for_a_broken_promise(
    tmp_path, capsys, monkeypatch
) -> None:
    quick = [promise for promise in PROMISES if promise.name != "elsewhere"]
    monkeypatch.setattr("rawdiff.testing.dataset.PROMISES", quick)
    x = np.random.default_rng(0).normal(size=(8, 1, 4)).astype(np.float32)
    np.save(tmp_path / "good.npy", x)
    np.save(tmp_path / "steep.npy", 1e9 + x.astype(np.float64))
    command = ["check-dataset", "array", "--adapter", "{name: grid, patch_size: [2]}"]
    assert main([*command, f"path={tmp_path / 'good.npy'}"]) == 0
    said = capsys.readouterr().out
    assert "axis0 2" in said
    assert "samples a second" in said
    assert main([*command, f"path={tmp_path / 'steep.npy'}"]) == 1
    assert "float32 does not keep such small differences" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_dataset_without_its_files_is_told_what_is_missing(tmp_path, capsys) -> None:
    assert main(["check-dataset", "array", f"path={tmp_path / 'none.npy'}"]) == 1
    said = capsys.readouterr().out
    assert "none.npy" in said
    assert "not looked at: mend `info` first" in said
