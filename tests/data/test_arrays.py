"""Arrays in every kind of file are the same samples, and every mistake is named with its cure."""

import errno
import json
import pickle
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from torch.utils.data import DataLoader

from rawdiff.data.arrays import ArrayDataset, ArrayWriter
from rawdiff.data.dataset import Array, DataInfo, collate
from rawdiff.errors import UserError

SUFFIXES = (".npz", ".zarr", ".zip", ".h5")
X = np.random.default_rng(0).normal(size=(6, 2, 4, 5)).astype(np.float32)
X[1, 0, 2] = np.nan
PARTS: dict[str, Array] = {
    "x": X,
    "y": np.array([0, 2, 1, 1, 0, 2], dtype=np.uint8),
    "season": np.linspace(0, 1, 6),
    "past": X[:, :1] * 2,
    "area": np.arange(4.0)[None, :, None] * np.ones((1, 4, 5)),
}


def save(path: Path, arrays: dict[str, Array]) -> Path:
    """All arrays in one file, of the kind that its suffix says."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    else:
        store: Any = zarr.storage.ZipStore(path, mode="w") if path.suffix == ".zip" else path
        group = zarr.open_group(store, mode="w")
        for name, array in arrays.items():
            group.create_array(name, data=array)
        if path.suffix == ".zip":
            store.close()
    return path


def save_npy(path: Path, array: Array) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file_gives_the_same_samples(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"all{suffix}", PARTS)
    data = ArrayDataset(path=path, labels="y", scalars="season", context="past", weight="area")
    assert data.info == DataInfo(
        shape=(2, 4, 5),
        channels=("channel0", "channel1"),
        class_names=("0", "1", "2"),
        scalar_names=("scalar0",),
        num_context_channels=1,
    )
    batch = collate(data.get_batch(range(len(data))), range(len(data)))
    np.testing.assert_array_equal(batch.x, X)
    assert batch.label is not None
    assert batch.label.tolist() == PARTS["y"].tolist()
    np.testing.assert_array_equal(batch.scalars, PARTS["season"][:, None])
    np.testing.assert_array_equal(batch.context, PARTS["past"])
    np.testing.assert_array_equal(batch.weight, np.stack([PARTS["area"]] * 6))


def test_parts_may_lie_in_files_of_their_own(tmp_path: Path) -> None:
    path = save_npy(tmp_path / "x.npy", X)
    labels = save_npy(tmp_path / "classes.npy", PARTS["y"])
    context = save(tmp_path / "more.npz", {"context": PARTS["past"], "other": X})
    sample = ArrayDataset(path=path, labels=str(labels), context=str(context))[3]
    assert sample.label == 1
    np.testing.assert_array_equal(sample.context, PARTS["past"][3])


def test_a_zarr_array_needs_no_name(tmp_path: Path) -> None:
    zarr.save_array(tmp_path / "x.zarr", X)  # type: ignore[arg-type]
    np.testing.assert_array_equal(ArrayDataset(path=tmp_path / "x.zarr")[1].x, X[1])


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_key_may_lead_into_groups(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"x{suffix}", {"train/x": X, "test/x": X[:2]})
    assert len(ArrayDataset(path=path, key="test/x")) == 2


@pytest.mark.parametrize("channel_dim", [-1, 3])
def test_channels_may_come_last(tmp_path: Path, channel_dim: int) -> None:
    path = save_npy(tmp_path / "x.npy", np.moveaxis(X, 1, -1))
    data = ArrayDataset(path=path, channel_dim=channel_dim)
    assert data.info.shape == (2, 4, 5)
    np.testing.assert_array_equal(data[4].x, X[4])


def test_without_a_channel_dim_there_is_one_channel(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", {"x": X[:, 0], "area": PARTS["area"][0]})
    data = ArrayDataset(path=path, channel_dim=None, channels=("t2m",), units=("K",), weight="area")
    assert (data.info.shape, data.info.channels, data.info.units) == ((1, 4, 5), ("t2m",), ("K",))
    np.testing.assert_array_equal(data[0].x, X[0, :1])
    np.testing.assert_array_equal(data[0].weight, PARTS["area"])


def test_dtypes_are_kept_in_the_byte_order_of_this_machine(tmp_path: Path) -> None:
    for name in ("u1", "<i2", ">f4"):
        path = save_npy(tmp_path / f"{name[1:]}.npy", np.ones((3, 1, 4), name))
        x = ArrayDataset(path=path)[0].x
        assert x.dtype == np.dtype(name).newbyteorder("=")
        collate([ArrayDataset(path=path)[0]], [0])


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".zip"])
def test_open_files_do_not_travel_to_other_processes(tmp_path: Path, suffix: str) -> None:
    data = ArrayDataset(path=save(tmp_path / f"x{suffix}", PARTS))
    assert len(data) == 6  # opened here
    assert len(pickle.dumps(data)) < 2000
    assert pickle.loads(pickle.dumps(data)) == data
    loader: Any = DataLoader(data, num_workers=2, batch_size=None, collate_fn=attrgetter("x"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.stack(list(loader)), X)


def test_a_file_that_was_written_again_is_opened_again(tmp_path: Path) -> None:
    data = ArrayDataset(path=save(tmp_path / "x.npz", {"x": X}))
    assert len(data) == 6
    save(tmp_path / "x.npz", {"x": X[:4]})
    assert len(data) == 4


def test_more_classes_than_labels_may_be_announced(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", PARTS)
    assert ArrayDataset(path=path, labels="y", num_classes=5).info.num_classes == 5


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "missing key": ({"key": "u"}, "no array `u`; it has: `x`, `y`, `season`, `past`, `area`"),
    "missing part": ({"weight": "w"}, "no array `w`"),
    "missing file": ({"labels": "nowhere.npy"}, "nowhere.npy does not exist"),
    "too few labels": ({"labels": "few"}, r"\[5\], but there are 6 samples"),
    "fractions as labels": ({"labels": "season"}, "dtype float64 .* whole numbers"),
    "negative labels": ({"labels": "minus"}, "smallest value -1"),
    "too few classes": ({"labels": "y", "num_classes": 2}, "3 classes, but .* is 2"),
    "classes without labels": ({"num_classes": 2}, "write `data.labels`"),
    "too many scalars": ({"scalars": "past"}, r"must be \[6\] or \[6, S\]"),
    "another grid": ({"context": "other_grid"}, "all sizes of x but the channels"),
    "weight of samples": ({"weight": "season"}, "as many dims and the sizes of x, or 1"),
    "too few names": ({"channels": ("u",)}, "1 entries, .* the array has 2"),
    "no such dim": ({"channel_dim": 4}, "channel_dim: null"),
    "samples' dim": ({"channel_dim": 0}, "after the first"),
    "no dims left": ({"key": "matrix"}, "leaves 0 dims"),
    "complex": ({"key": "complex"}, "complex128"),
    "text": ({"key": "text"}, "only real numbers"),
    "no samples": ({"key": "none"}, "nothing in it"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(tmp_path: Path, mistake: str) -> None:
    wrong = {
        "few": np.zeros(5, int),
        "minus": np.array([0, 1, -1, 0, 0, 0]),
        "other_grid": X[:, :, :3],
        "matrix": np.zeros((6, 2)),
        "complex": X.astype(complex),
        "text": np.array(["a", "b"]),
        "none": X[:0],
    }
    settings, message = MISTAKES[mistake]
    path = save(
        tmp_path / "x.npz", PARTS | {k: v for k, v in wrong.items() if k in settings.values()}
    )
    with pytest.raises(UserError, match=message):
        _ = ArrayDataset(path=path, **settings).info


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".npy", ".hdf5"])
def test_missing_and_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    with pytest.raises(UserError, match="does not exist"):
        len(ArrayDataset(path=path))
    path.write_bytes(b"not what the suffix says")
    with pytest.raises(UserError, match=f"x{suffix}: it cannot be read .* damaged"):
        len(ArrayDataset(path=path))


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    path = save_npy(tmp_path / "x.npy", X)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be read"):
        len(ArrayDataset(path=path))


def test_a_damaged_sample_is_named(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    group.create_array("x", data=X, chunks=(1, 2, 4, 5))
    (tmp_path / "x.zarr" / "x" / "c" / "3" / "0" / "0" / "0").write_bytes(b"?")
    data = ArrayDataset(path=tmp_path / "x.zarr")
    np.testing.assert_array_equal(data[2].x, X[2])
    with pytest.raises(UserError, match="sample 3 cannot be read"):
        data[3]


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([{"a": 1}], dtype=object))
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object))
    for name in ("x.npz", "x.npy"):
        with pytest.raises(UserError, match="cannot be read"):
            len(ArrayDataset(path=tmp_path / name))


def test_unknown_suffixes_and_missing_packages_have_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"must end in \.npy, \.npz, \.zarr"):
        len(ArrayDataset(path=tmp_path / "x.csv"))

    def missing(name: str) -> None:
        raise ImportError(name)

    path = save(tmp_path / "x.h5", PARTS)
    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(UserError, match=r"pip install rawdiff\[arrays\]"):
        len(ArrayDataset(path=path))


def test_a_sample_beyond_the_last_is_an_index_error(tmp_path: Path) -> None:
    data = ArrayDataset(path=save_npy(tmp_path / "x.npy", X))
    for index in (6, -1):
        with pytest.raises(IndexError):
            data[index]


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    info = DataInfo(
        (2, 4, 5), ("u", "v"), units=("m/s", "m/s"), coordinates={"lat": (50.0, 49, 48, 47)}
    )
    first, description = ArrayWriter().write(X, tmp_path, info=info, labels=[3, 0, 1, 1, 2, 0])
    second, _ = ArrayWriter().write(X, tmp_path, info=info, first_index=6)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"samples-000000.npz", "samples-000006.npz", "samples.json"}
    data = ArrayDataset(path=first, labels="labels", channels=info.channels, units=info.units)
    np.testing.assert_array_equal(data[1].x, X[1])
    assert data[0].label == 3
    assert len(ArrayDataset(path=second)) == 6
    assert '"lat"' in description.read_text()


def test_where_values_lie_is_written_with_them(tmp_path: Path) -> None:
    info, place = DataInfo((2, 4, 5), ("u", "v"), place_names=("time",)), np.ones((6, 1, 4, 5))
    archive, description = ArrayWriter().write(X, tmp_path, info=info, place=place)
    np.testing.assert_array_equal(np.load(archive)["place"], place)
    assert json.loads(description.read_text())["place_names"] == ["time"]


FULL = """
import pathlib, resource, sys
import numpy as np
from rawdiff.data.array_archives import join_arrays, write_arrays

folder = pathlib.Path(sys.argv[1])
write_arrays(folder / "part.h5", {"x": np.ones((1000, 100), np.float32)})
write_arrays(folder / "whole.h5", {"x": np.zeros((2, 3), np.float32)})
before = (folder / "whole.h5").read_bytes()
for room in (0, 500, 5_000, 300_000):  # bytes that fit on the disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    for write in (
        lambda: write_arrays(folder / "whole.h5", {"x": np.ones((1000, 100), np.float32)}),
        lambda: join_arrays([folder / "part.h5"] * 3, folder / "whole.h5"),
    ):
        try:
            write()
        except OSError as error:
            print(type(error).__name__, error.errno)
    assert (folder / "whole.h5").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["part.h5", "whole.h5"]
"""


def test_a_full_disk_ends_hdf5_with_an_error_and_leaves_what_was_there(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"OSError {errno.EFBIG}"] * 8
