"""Samples come out as pictures of the very values that went in."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rawdiff_images.folder import ImageFolder
from rawdiff_images.writer import PngWriter

from rawdiff.data.dataset import DataInfo
from rawdiff.errors import UserError


def info(shape: tuple[int, ...] = (3, 8, 8), **fields) -> DataInfo:
    return DataInfo(shape, ("any",) * shape[0], **{"value_range": (0, 255), **fields})


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_written_images_read_back_bit_for_bit(tmp_path: Path, channels: int, mode: str) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (3, channels, 8, 8)).astype(np.float32)
    written = PngWriter().write(samples, tmp_path, info=info((channels, 8, 8)), first_index=41)
    assert [path.name for path in written] == ["000041.png", "000042.png", "000043.png"]
    read = ImageFolder(path=tmp_path, size=8, mode=mode, labels=False)
    assert np.array_equal(np.stack([sample.x for sample in read.get_batch(range(3))]), samples)


def test_values_are_scaled_rounded_and_clipped(tmp_path: Path) -> None:
    values = [0.0, 16.0, 8.0, 0.05, -3.0, 99.0, np.inf, np.nan]
    samples = np.array(values, dtype=np.float32).reshape(1, 1, 2, 4)
    (path,) = PngWriter().write(samples, tmp_path, info=info((1, 2, 4), value_range=(0, 16)))
    assert np.asarray(Image.open(path)).ravel().tolist() == [0, 255, 128, 1, 0, 255, 255, 0]


def test_class_folders_make_a_tree_that_is_a_dataset(tmp_path: Path) -> None:
    samples = np.zeros((3, 3, 8, 8), dtype=np.float32)
    named = info(class_names=("ant", "bee"))
    PngWriter(class_folders=True).write(samples, tmp_path, info=named, labels=[1, 0, 1])
    read = ImageFolder(path=tmp_path, size=8)
    assert read.info.class_names == ("ant", "bee")
    assert [sample.label for sample in read.get_batch(range(3))] == [0, 1, 1]


def test_a_class_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    samples = np.zeros((3, 3, 8, 8), dtype=np.float32)
    hostile = info(class_names=("../../out", "..", "/out"))
    writer = PngWriter(class_folders=True)
    for path in writer.write(samples, tmp_path / "in", info=hostile, labels=[0, 1, 2]):
        assert path.resolve().parent.parent == (tmp_path / "in").resolve()


def test_samples_that_are_no_images_are_explained(tmp_path: Path) -> None:
    writer = PngWriter()
    for shape in ((1, 2, 8, 8), (1, 3, 8)):
        with pytest.raises(UserError, match="1 or 3 channels"):
            writer.write(np.zeros(shape), tmp_path, info=info())
    with pytest.raises(UserError, match="range of values"):
        writer.write(np.zeros((1, 3, 8, 8)), tmp_path, info=info(value_range=None))
    with pytest.raises(UserError, match="class_folders: false"):
        PngWriter(class_folders=True).write(np.zeros((1, 3, 8, 8)), tmp_path, info=info())
