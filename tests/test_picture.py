"""Pictures of samples show the right values at the right place."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rawdiff import picture
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.errors import UserError
from rawdiff.picture import (
    LINE_HEIGHT,
    MARGIN,
    MISSING,
    TEXT,
    VIRIDIS,
    Matrix,
    draw_board,
    draw_matrices,
    draw_samples,
    save_png,
)


def info(shape: tuple[int, ...], **facts: object) -> DataInfo:
    return DataInfo(shape, tuple(f"channel{i}" for i in range(shape[0])), **facts)  # type: ignore[arg-type]


def pixels(samples: Array, about: DataInfo, labels: list[int] | None = None) -> Array:
    return np.asarray(draw_samples(samples, about, labels))[MARGIN:-MARGIN, MARGIN:-MARGIN]


def test_three_channels_with_a_range_are_colours() -> None:
    sample = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64)).astype(np.float32)
    shown = pixels(sample, info((3, 64, 64), value_range=(0, 255)))
    assert np.array_equal(shown, sample[0].transpose(1, 2, 0))


def test_small_images_are_enlarged_by_a_whole_factor() -> None:
    sample = np.arange(64).reshape(1, 1, 8, 8)
    shown = pixels(sample, info((1, 8, 8), value_range=(0, 63)))
    assert shown.shape == (64, 64, 3)
    expected = np.rint(sample[0, 0] * 255 / 63).repeat(8, 0).repeat(8, 1)
    assert np.array_equal(shown[..., 0], expected)


def test_large_fields_are_shrunk() -> None:
    shown = pixels(np.zeros((1, 1, 512, 1024)), info((1, 512, 1024), value_range=(0, 1)))
    assert shown.shape == (128, 256, 3)


def test_fields_are_coloured_from_low_to_high_with_gaps_in_grey() -> None:
    sample = np.linspace(-5, 5, 64 * 64).reshape(1, 1, 64, 64)
    sample[0, 0, 30, 30] = np.nan
    shown = pixels(sample, info((1, 64, 64), units=("K",)))
    assert tuple(shown[0, 0]) == VIRIDIS[0]
    assert tuple(shown[63, 63]) == VIRIDIS[-1]
    assert tuple(shown[30, 30]) == MISSING


def test_one_outlier_does_not_darken_all_others() -> None:
    sample = np.linspace(0, 1, 64 * 64).reshape(1, 1, 64, 64)
    sample[0, 0, 0, 0] = 1e6
    assert tuple(pixels(sample, info((1, 64, 64)))[63, 63]) == VIRIDIS[-1]


def test_each_class_has_its_row_with_its_name_at_the_left() -> None:
    samples = np.stack([np.full((1, 64, 64), label) for label in (2, 0, 2, 0, 0)])
    about = info((1, 64, 64), value_range=(0, 2), class_names=("zero", "one", "two"))
    labels = [2, 0, 2, 0, 0]
    assert [name for name, _ in picture._rows(5, about, labels, columns=10)] == ["zero", "two"]
    shown = pixels(samples, about, labels)
    assert shown[70, -1].tolist() == [255, 255, 255]  # class two has only two of three columns
    assert shown[:64, -64:].max() == 0  # the third of class zero is black
    assert len(np.unique(shown[:64, :20])) > 2  # letters


def test_classes_that_come_once_make_a_plain_grid_with_a_name_under_each() -> None:
    about = info((1, 64, 64), value_range=(0, 1), class_names=("a", "b", "c"))
    samples = np.zeros((3, 1, 64, 64))
    assert pixels(samples, about).shape == (64, 3 * 64 + 2 * 6, 3)
    shown = pixels(samples, about, [2, 0, 1])
    assert shown.shape == (64 + LINE_HEIGHT, 3 * 64 + 2 * 6, 3)
    below = [shown[64:, i : i + 64] for i in (0, 70, 140)]
    for name, part in zip("cab", below, strict=True):
        assert np.array_equal(part, np.asarray(picture._text(name, TEXT, 64, LINE_HEIGHT)))
    assert shown[:64, :64].max() == 0  # the name lies below, not on the picture
    two_rows = np.asarray(draw_samples(samples, about, [2, 0, 1], columns=2))
    last = two_rows[-MARGIN - LINE_HEIGHT : -MARGIN, MARGIN : MARGIN + 64]
    assert np.array_equal(last, below[2])


@pytest.mark.parametrize("shape", [(6, 50), (2, 8, 12), (5, 8, 4), (2, 4, 8, 6), (1, 3, 4, 8, 6)])
@pytest.mark.parametrize("value_range", [None, (0.0, np.inf), (0.0, 1.0)])
def test_any_number_of_dims_can_be_drawn(
    shape: tuple[int, ...], value_range: tuple[float, float] | None
) -> None:
    samples = np.random.default_rng(0).normal(size=(7, *shape)).astype(np.float32)
    samples[0] = np.nan
    samples[1, ..., 1] = np.nan
    shown = pixels(samples, info(shape, value_range=value_range))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 3


def test_three_dims_show_the_three_central_slices() -> None:
    volume = np.zeros((1, 1, 64, 64, 64))
    volume[0, 0, 32, 10, 20] = 1
    volume[0, 0, 5, 32, 7] = 1
    volume[0, 0, 8, 9, 32] = 1
    shown = pixels(volume, info((1, 64, 64, 64), value_range=(0, 1)))[..., 0]
    slices = [shown[:, left : left + 64] for left in (0, 66, 132)]
    assert [np.argwhere(part).tolist() for part in slices] == [[[10, 20]], [[5, 7]], [[8, 9]]]


def test_a_missing_stretch_breaks_the_line() -> None:
    sample = np.zeros((1, 1, 128))
    sample[..., 40:80] = np.nan
    shown = pixels(sample, info((1, 128), value_range=(-1, 1)))
    drawn = shown.min(axis=(0, 2)) < 200
    assert drawn[10]
    assert not drawn[60]
    assert drawn[100]


def test_the_best_cell_of_a_matrix_is_framed_and_a_missing_one_grey() -> None:
    values = np.array([[3.0, 1.0], [2.0, np.nan]])
    ranks = np.array([[1.0, 0.0], [0.5, np.nan]])
    matrix = Matrix("score", ["a", "b"], ["c", "d"], values, ranks)
    shown = np.asarray(draw_matrices([matrix]))

    def places(colour: tuple[int, int, int]) -> np.ndarray:
        return np.argwhere((shown == colour).all(-1))

    best, worst, missing = places((213, 94, 0)), places((68, 1, 84)), places((211, 211, 211))
    assert best[:, 0].mean() == pytest.approx(worst[:, 0].mean(), abs=2)  # same row
    assert best[:, 1].min() > worst[:, 1].max()  # next column
    assert missing[:, 0].min() > best[:, 0].max()
    assert missing[:, 1].mean() == pytest.approx(best[:, 1].mean(), abs=2)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UserError, match="1 to 4 dims"):
        draw_samples(np.zeros((2, 3)), info((3,)))
    with pytest.raises(UserError, match="2 labels for 3 samples"):
        draw_samples(np.zeros((3, 1, 4)), info((1, 4)), [0, 1])


def test_the_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "picture.png"
    image = draw_samples(np.zeros((1, 1, 8, 8)), info((1, 8, 8)))
    save_png(image, path)
    assert Image.open(path).size == image.size
    assert [entry.name for entry in path.parent.iterdir()] == ["picture.png"]


def test_colours_span_the_values_of_the_samples_to_compare_with() -> None:
    real = np.linspace(-1, 1, 64 * 64).reshape(1, 1, 64, 64)
    about = info((1, 64, 64))

    def drawn(samples: Array) -> Array:
        return np.asarray(draw_samples(samples, about, like=real, legend=False))[10:-10, 10:-10]

    assert np.array_equal(drawn(real), pixels(real, about)[:64, :64])  # the legend stood below
    assert tuple(drawn(real * 0 + 100)[0, 0]) == VIRIDIS[-1]
    assert tuple(drawn(real * 1e-3)[0, 0]) == VIRIDIS[4]  # the middle


def test_a_board_has_equal_tiles_with_titles_and_grey_where_a_picture_is_missing() -> None:
    red = Image.new("RGB", (200, 100), (255, 0, 0))
    rows = [[("one\n1.0", red), ("two\n2.0", "failed")], [("three\n3.0", red)]]
    shown = np.asarray(draw_board(rows))
    is_red, is_grey = (np.all(shown == colour, -1) for colour in ((255, 0, 0), MISSING))
    assert is_red.sum() == 2 * 200 * 100
    assert 0.95 * 200 * 100 < is_grey.sum() < 200 * 100  # but for the letters
    assert np.flatnonzero(is_red.any(0))[0] == MARGIN
    assert np.flatnonzero(is_red.any(1))[0] == MARGIN + 2 * 16  # two lines of text


def test_a_long_title_is_not_cut() -> None:
    small = Image.new("RGB", (10, 10))
    assert draw_board([[("a title of many words", small)]]).width > 100
