"""A tree of images is a dataset: labels by folder, mistakes explained, damage counted."""

import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from rawdiff_images.folder import ImageFolder

from rawdiff.data.dataset import Batch, collate
from rawdiff.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF")


def save(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, value, value)).save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Images 0, 1, 2 of class `ant` and 3, 4 of class `bee`; the value of all pixels is 10 i."""
    root = tmp_path / "tree"
    save(root / "bee" / "x.png", 30)
    save(root / "bee" / "y.WebP", 40)
    save(root / "ant" / "1.PNG", 0)
    save(root / "ant" / "deep" / "er" / "0.tiff", 20)
    save(root / "ant" / "2.bmp", 10)
    save(root / ".hidden" / "a.png")
    save(root / "ant" / "._1.png")
    (root / "ant" / "notes.txt").write_text("not an image")
    (root / "LICENSE").write_text("not an image")
    return root


def values(dataset: ImageFolder) -> list[tuple[int, int | None]]:
    samples = dataset.get_batch(range(len(dataset)))
    return [(int(sample.x[0, 0, 0]), sample.label) for sample in samples]


def test_folders_are_classes_in_the_order_of_their_names(tree: Path) -> None:
    dataset = ImageFolder(path=tree, size=8)
    assert dataset.info.class_names == ("ant", "bee")
    assert dataset.info.value_range == (0, 255)
    assert values(dataset) == [(0, 0), (10, 0), (20, 0), (30, 1), (40, 1)]
    assert values(pickle.loads(pickle.dumps(dataset))) == values(dataset)


def test_one_class_folder_is_enough(tree: Path) -> None:
    shutil.rmtree(tree / "bee")
    dataset = ImageFolder(path=tree, size=8)
    assert dataset.info.num_classes == 1
    assert values(dataset) == [(0, 0), (10, 0), (20, 0)]


def test_without_labels_any_folders_do(tree: Path) -> None:
    save(tree / "flat.png", 50)
    dataset = ImageFolder(path=tree, size=8, labels=False)
    assert values(dataset) == [
        (0, None),
        (10, None),
        (20, None),
        (30, None),
        (40, None),
        (50, None),
    ]
    assert dataset.info.num_classes == 0


def test_a_sample_has_the_shape_that_info_promises(tree: Path) -> None:
    for mode in ("RGB", "L"):
        dataset = ImageFolder(path=tree, size=[4, 6], mode=mode)
        x = dataset[0].x
        assert x.shape == dataset.info.shape == (len(dataset.info.channels), 4, 6)
        assert x.dtype == np.uint8
        assert x.flags.c_contiguous


def test_a_size_is_one_number_or_rows_and_columns(tree: Path) -> None:
    assert ImageFolder(path=tree, size=8) == ImageFolder(path=tree, size=[8, 8])
    for wrong in (0, [8], [8, 8, 8], "large"):
        with pytest.raises(ValidationError):
            ImageFolder(path=tree, size=wrong)


def test_info_needs_no_data_when_the_number_of_classes_is_given(tmp_path: Path) -> None:
    info = ImageFolder(path=tmp_path / "later", size=8, num_classes=3).info
    assert info.class_names == ("0", "1", "2")
    assert ImageFolder(path=tmp_path / "later", size=8, labels=False).info.num_classes == 0


def test_the_number_of_classes_is_checked(tree: Path) -> None:
    assert ImageFolder(path=tree, size=8, num_classes=2).info.class_names == ("ant", "bee")
    with pytest.raises(UserError, match=r"is 3, but .* holds 2 class folders, from ant to bee"):
        _ = ImageFolder(path=tree, size=8, num_classes=3).info


def broken_trees(root: Path) -> dict[str, tuple[Path, dict[str, Any], str]]:
    save(root / "mixed" / "ant" / "a.png")
    save(root / "mixed" / "loose.png")
    save(root / "flat" / "a.png")
    save(root / "hollow" / "ant" / "a.png")
    (root / "hollow" / "bee").mkdir()
    (root / "empty").mkdir()
    return {
        "missing": (root / "gone", {}, "gone cannot be listed"),
        "a file": (root / "flat" / "a.png", {}, "cannot be listed"),
        "empty": (root / "empty", {}, "no class folders and no images"),
        "empty without labels": (root / "empty", {"labels": False}, "holds no images"),
        "a class without images": (root / "hollow", {}, "bee holds no images"),
        "flat with labels": (root / "flat", {}, "image a.png.*labels: false"),
        "mixed": (root / "mixed", {}, "image loose.png.*labels: false"),
    }


def test_a_wrong_folder_is_explained(tmp_path: Path) -> None:
    for what, (path, settings, message) in broken_trees(tmp_path).items():
        with pytest.raises(UserError) as caught:
            len(ImageFolder(path=path, size=8, **settings))
        assert re.search(message, str(caught.value)), what


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def test_a_damaged_image_stops_the_run(tree: Path) -> None:
    damage(tree / "ant" / "2.bmp")
    with pytest.raises(UserError, match=r"2\.bmp"):
        ImageFolder(path=tree, size=8).get_batch([0, 1])


def test_skip_counts_and_lets_the_next_readable_image_stand_in(tree: Path) -> None:
    for name in ("ant/2.bmp", "ant/deep/er/0.tiff", "bee/y.WebP"):
        damage(tree / name)
    dataset = ImageFolder(path=tree, size=8, on_error="skip")
    assert values(dataset) == [(0, 0), (30, 1), (30, 1), (30, 1), (0, 0)]
    assert collate(dataset.get_batch(range(5)), range(5)).num_damaged == 3


def test_skip_stops_if_nothing_can_be_read(tree: Path) -> None:
    for path in tree.rglob("*.*"):
        if path.is_file():
            damage(path)
    with pytest.raises(UserError, match="None of the 5 images"):
        ImageFolder(path=tree, size=8, on_error="skip")[2]


def test_skip_does_not_pass_over_a_file_that_cannot_be_opened(tree: Path) -> None:
    (tree / "ant" / "0.png").symlink_to(tree / "gone.png")
    with pytest.raises(UserError, match=r"0\.png cannot be opened"):
        ImageFolder(path=tree, size=8, on_error="skip")[0]


def test_flips_mirror_what_lies_on_the_grid_of_the_chosen_samples(tree: Path) -> None:
    batch = Batch(
        x=torch.arange(24).view(2, 1, 3, 4),
        index=torch.arange(2),
        label=torch.tensor([1, 0]),
        context=torch.arange(48).view(2, 2, 3, 4),
        weight=torch.tensor([0.5, 2.0]),
    )

    def draw(n: int) -> torch.Tensor:
        return torch.tensor([[0.7], [0.3]]).expand(2, n)

    flipped = ImageFolder(path=tree, size=8).augment(batch, draw)
    for before, after in ((batch.x, flipped.x), (batch.context, flipped.context)):
        assert torch.equal(after[0], before[0])
        assert torch.equal(after[1], before[1].flip(-1))
    assert torch.equal(flipped.weight, batch.weight)
    assert torch.equal(flipped.label, batch.label)
    assert ImageFolder(path=tree, size=8, flip=False).augment(batch, draw) is batch


def test_photographs_of_any_size_and_colour(shared: Path) -> None:
    dataset = ImageFolder(path=shared / "data/images/imagenet-sample", size=64)
    assert dataset.info.num_classes == len(dataset) == 244
    x = collate(dataset.get_batch(range(244)), range(244)).x.double() / 255
    published = torch.tensor([0.4715, 0.4493, 0.4079])  # mean of the whole, uncropped files
    assert (x.mean((0, 2, 3)) - published).abs().max() < 0.02
