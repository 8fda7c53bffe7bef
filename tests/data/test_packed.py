"""A packed copy is the dataset itself, bit for bit, and says so when it is not."""

import json
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rawdiff import plugins
from rawdiff.data import packed as packed_module
from rawdiff.data.dataset import Dataset, Sample, collate
from rawdiff.data.packed import PackedDataset, find_packed, fingerprint, pack, packed_folder
from rawdiff.errors import UserError

IMAGE_BYTES = 3 * 8 * 8 + 8  # the pixels and the label


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Ten images of two classes."""
    rng = np.random.default_rng(0)
    for i in range(10):
        path = tmp_path / "tree" / ("ant", "bee")[i // 5] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return tmp_path / "tree"


def images(path: Path, *, size: Any = 8, **settings: Any) -> Dataset:
    return plugins.load_plugin("datasets", "image_folder")(path=path, size=size, **settings)


def pack_in_fours(source: Dataset, folder: Path, **settings) -> PackedDataset:
    return pack(source, folder, shard_bytes=4 * IMAGE_BYTES, **settings)


def assert_equal(samples: list[Sample], expected: list[Sample]) -> None:
    assert len(samples) == len(expected)
    for sample, other in zip(samples, expected, strict=True):
        for name in ("x", "scalars", "context", "weight"):
            ours, theirs = getattr(sample, name), getattr(other, name)
            assert (ours is None) == (theirs is None), name
            if ours is not None:
                assert ours.dtype == theirs.dtype, name
                assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"), name
        assert sample.label == other.label
        assert type(sample.label) is type(other.label)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_packed_equals_folder_bit_for_bit(tree: Path, tmp_path: Path, num_workers: int) -> None:
    source = images(tree)
    packed = pack_in_fours(source, tmp_path / "packed", num_workers=num_workers)
    assert [shard.num_samples for shard in packed.index.shards] == [4, 4, 2]
    order = [9, 0, 3, 4, 7, 8, 3]
    assert_equal(packed.get_batch(order), source.get_batch(order))
    assert_equal([packed[i] for i in range(len(packed))], source.get_batch(range(10)))
    assert packed.info == source.info
    assert len(packed) == len(source)
    for outside in (10, -1):
        with pytest.raises(IndexError):
            packed[outside]


def test_packed_photographs_are_those_of_the_folder(shared: Path, tmp_path: Path) -> None:
    source = images(shared / "data/images/imagenet-sample", size=[48, 64])
    packed = pack(source, tmp_path / "packed", shard_bytes=1 << 20, num_workers=2)
    assert_equal(packed.get_batch(range(len(source))), source.get_batch(range(len(source))))


def test_samples_are_views_of_the_files(tree: Path, tmp_path: Path) -> None:
    packed = pack_in_fours(images(tree), tmp_path / "packed")
    first, second = packed.get_batch([0, 1])
    assert first.x.ctypes.data + first.x.nbytes == second.x.ctypes.data
    assert not first.x.flags.writeable
    assert collate([first, second], [0, 1]).x.shape == (2, 3, 8, 8)


def test_the_source_may_be_gone_but_still_augments(tree: Path, tmp_path: Path) -> None:
    pack(images(tree), tmp_path / "packed")
    expected = images(tree)[2]
    shutil.rmtree(tree)
    packed = PackedDataset(path=tmp_path / "packed")
    assert packed.info.class_names == ("ant", "bee")
    batch = collate([packed[2]], [0])
    flipped = packed.augment(batch, lambda n: torch.full((1, n), 0.25))
    assert np.array_equal(flipped.x[0].numpy(), expected.x[..., ::-1])


def test_it_travels_to_workers_without_its_files(tree: Path, tmp_path: Path) -> None:
    packed = pack(images(tree), tmp_path / "packed")
    expected = packed.get_batch(range(10))
    copied = pickle.loads(pickle.dumps(packed))
    assert "_arrays" in vars(packed)
    assert "_arrays" not in vars(copied)
    assert_equal(copied.get_batch(range(10)), expected)


KILLED = """
import sys, time
from pathlib import Path
from rawdiff import plugins
from rawdiff.data import packed as packed_module
from rawdiff.data import packed

def progress(done, total):
    if done == 10:  # in the middle of the third shard of four samples
        print("now", flush=True)
        time.sleep(60)

packed.CHUNK_LENGTH = 2
source = plugins.load_plugin("datasets", "image_folder")(path=sys.argv[1], size=8)
packed.pack(source, Path(sys.argv[2]), shard_bytes=int(sys.argv[3]), progress=progress)
"""


def test_pack_continues_after_a_kill(tree: Path, tmp_path: Path) -> None:
    for i in range(4):
        shutil.copy(tree / "ant" / "0.png", tree / "bee" / f"more{i}.png")
    source = images(tree)
    folder = packed_folder(source, tmp_path)
    arguments = [str(tree), str(folder), str(4 * IMAGE_BYTES)]
    command = [sys.executable, "-c", KILLED, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
    assert find_packed(source, tmp_path) is None
    with pytest.raises(UserError, match=r"index\.json is missing.*not finished"):
        len(PackedDataset(path=folder))
    finished = sorted(folder.glob("*.bin"))
    assert [path.name for path in finished if path.name[0] == "x"] == ["x-00000.bin", "x-00001.bin"]
    assert list(folder.glob("*.tmp"))
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in finished]

    seen = []
    pack_in_fours(source, folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(12, 14), (14, 14)]
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in finished] == before
    pack_in_fours(source, tmp_path / "whole")
    assert contents(folder) == contents(tmp_path / "whole")


def contents(folder: Path) -> dict[str, Any]:
    index = json.loads((folder / "index.json").read_text())
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {"index.json": index}


def test_flipped_bit_is_found_and_mended(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    pack_in_fours(images(tree), folder)
    whole = contents(folder)
    damaged = bytearray(whole["x-00001.bin"])
    damaged[100] ^= 1
    (folder / "x-00001.bin").write_bytes(damaged)
    with pytest.raises(UserError, match=r"x-00001\.bin.*checksum.*rawdiff prepare"):
        len(PackedDataset(path=folder, verify=True))
    untouched = (folder / "x-00000.bin").stat().st_ino
    pack_in_fours(images(tree), folder)
    assert contents(folder) == whole
    assert len(PackedDataset(path=folder, verify=True)) == 10
    assert (folder / "x-00000.bin").stat().st_ino == untouched


def test_missing_and_truncated_files_are_always_found(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    pack_in_fours(images(tree), folder)
    labels = folder / "label-00002.bin"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"label-00002\.bin has 15 bytes instead of 16"):
        len(PackedDataset(path=folder))
    labels.unlink()
    with pytest.raises(UserError, match=r"label-00002\.bin is missing"):
        PackedDataset(path=folder).get_batch([0])


def test_an_index_that_cannot_be_understood_is_explained(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    pack(images(tree), folder)
    index = json.loads((folder / "index.json").read_text())
    for wrong in ("{", "[]", json.dumps(index | {"format_version": 2})):
        (folder / "index.json").write_text(wrong)
        with pytest.raises(UserError, match=r"index\.json cannot be understood"):
            len(PackedDataset(path=folder))


def test_a_folder_of_another_dataset_is_refused(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    pack(images(tree), folder)
    before = contents(folder)
    with pytest.raises(UserError, match=r"mode': 'RGB'.*mode': 'L'.*delete this one"):
        pack(images(tree, mode="L"), folder)
    (tree / "ant" / "0.png").unlink()
    with pytest.raises(UserError, match="packed from 10 samples, but there are 9"):
        pack(images(tree), folder)
    assert contents(folder) == before


def test_damaged_samples_are_left_out_and_listed(tree: Path, tmp_path: Path) -> None:
    source = images(tree, on_error="skip")
    readable = [i for i in range(10) if i not in (1, 4, 5, 6, 7)]
    expected = source.get_batch(readable)
    for path in (
        tree / "ant/1.png",
        tree / "ant/4.png",
        *(tree / f"bee/{i}.png" for i in (5, 6, 7)),
    ):
        path.write_bytes(b"")
    packed = pack_in_fours(source, tmp_path / "packed")
    assert packed.index.damaged == (1, 4, 5, 6, 7)
    assert [shard.num_samples for shard in packed.index.shards] == [3, 0, 2]
    assert_equal(packed.get_batch(range(5)), expected)
    with pytest.raises(UserError, match=r"^\S*1\.png holds no whole image"):
        pack(images(tree), tmp_path / "strict", num_workers=1)


def test_a_full_disk_keeps_finished_shards(tree: Path, tmp_path: Path) -> None:
    """The system refuses to let any file grow beyond a limit, as a full disk would."""
    source, limits = images(tree, size=32), resource.getrlimit(resource.RLIMIT_FSIZE)
    shard_bytes = 3 * (3 * 32 * 32 + 8)  # three samples
    pack(source, tmp_path / "whole", shard_bytes=shard_bytes)

    def fill_the_disk(done: int, total: int) -> None:
        if done == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))

    folder = tmp_path / "packed"
    try:
        with pytest.raises(UserError, match=r"Cannot write to .*packed: File too large.*Make room"):
            pack(source, folder, shard_bytes=shard_bytes, progress=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in folder.iterdir()) == [
        "index.unfinished.json",
        "label-00000.bin",
        "x-00000.bin",
    ]
    kept = (folder / "x-00000.bin").stat().st_ino
    pack(source, folder)
    assert (folder / "x-00000.bin").stat().st_ino == kept
    assert contents(folder) == contents(tmp_path / "whole")


def test_many_samples_make_larger_shards_and_not_more(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_module, "MAX_SHARDS", 3)
    packed = pack(images(tree), tmp_path / "packed", shard_bytes=1)
    assert [shard.num_samples for shard in packed.index.shards] == [4, 4, 2]


def test_find_packed_wants_exactly_these_settings(tree: Path, tmp_path: Path) -> None:
    source = images(tree)
    assert find_packed(source, tmp_path) is None
    pack(source, packed_folder(source, tmp_path))
    assert packed_folder(source, tmp_path).name == f"image_folder-{fingerprint(source)}"
    found = find_packed(images(tree), tmp_path)
    assert found is not None
    assert_equal(found.get_batch([3]), source.get_batch([3]))
    assert find_packed(images(tree, flip=False), tmp_path) is None


STRANGER = '''
import numpy as np
from rawdiff.data.dataset import DataInfo, Dataset, Sample

class Rain(Dataset):
    """Samples of every part, on a line; the fifth may be longer than the others."""

    uneven: bool = False

    @property
    def info(self):
        return DataInfo((1, 6), ("rain",), ("mm",), {"distance": (0.5,) * 6},
                        scalar_names=("day", "hour"), value_range=(0, float("inf")))

    def __len__(self):
        return 7

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        x = rng.normal(size=(1, 6 + (self.uneven and index == 5))).astype(np.float32)
        x[0, index % 6] = np.nan
        return Sample(x, scalars=np.array([index, np.nan]), context=rng.random((2, 6)) > 0.5,
                      weight=np.float64(index))
'''


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Dataset]]:
    """A dataset of a package that was installed beside rawdiff."""
    site = tmp_path / "site"
    (site / "rain-1.0.dist-info").mkdir(parents=True)
    (site / "rain-1.0.dist-info" / "METADATA").write_text("Name: rain\nVersion: 1.0\n")
    (site / "rain-1.0.dist-info" / "entry_points.txt").write_text(
        "[rawdiff.datasets]\nrain = rain_of_a_stranger:Rain\n"
    )
    (site / "rain_of_a_stranger.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(site)
    plugins._entry_points.cache_clear()
    yield plugins.load_plugin("datasets", "rain")
    plugins._entry_points.cache_clear()
    sys.modules.pop("rain_of_a_stranger")


def test_any_dataset_keeps_every_part(stranger: type[Dataset], tmp_path: Path) -> None:
    source = stranger()
    packed = pack(source, tmp_path / "packed", shard_bytes=200)
    assert len(packed.index.shards) > 1
    assert_equal(packed.get_batch(range(7)), source.get_batch(range(7)))
    assert PackedDataset(path=tmp_path / "packed").info == source.info


def test_samples_of_several_shapes_are_refused(stranger: type[Dataset], tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"Sample 5 consists of x \[1, 7\].*first one of x \[1, 6\]"
    ):
        pack(stranger(uneven=True), tmp_path / "packed")
