"""Any image file becomes upright 8-bit pixels, and damage is never overlooked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rawdiff_images.crop import center_crop
from rawdiff_images.pixels import DamagedImageError, read_pixels

from rawdiff.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF")


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def pixel(path: Path, mode: str = "RGB") -> Any:
    """(red, green, blue) or the grey value of the first pixel."""
    values = read_pixels(path, mode)[0, 0].tolist()
    return tuple(values) if mode == "RGB" else values[0]


def test_a_16_bit_image_keeps_its_range(tmp_path: Path) -> None:
    steps = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257  # 0 … 65535
    Image.fromarray(steps).save(tmp_path / "a.png")
    Image.fromarray(steps.astype(">u2")).save(tmp_path / "big_endian.tif")
    Image.fromarray(steps.astype(np.int32)).save(tmp_path / "wide.tif")
    for path in sorted(tmp_path.iterdir()):
        read = read_pixels(path, "L")[..., 0]
        assert np.array_equal(read, np.arange(256).reshape(16, 16)), path
        assert np.array_equal(read_pixels(path, "RGB")[..., 2], read), path


def test_values_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 70000, dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif.*70000"):
        read_pixels(tmp_path / "a.tif", "L")


def test_exif_rotated_image_comes_out_upright(tmp_path: Path) -> None:
    upright = noise(4, 6)
    orientations = {  # what a camera that is held so stores
        1: upright,
        3: np.rot90(upright, 2),
        6: np.rot90(upright, 1),
        8: np.rot90(upright, -1),
        2: upright[:, ::-1],
    }
    for orientation, stored in orientations.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.png"
        Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
        assert np.array_equal(read_pixels(path, "RGB"), upright), orientation


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert pixel(tmp_path / "clear.png") == (255, 255, 255)
    Image.new("RGBA", (2, 2), (255, 0, 0, 128)).save(tmp_path / "half.webp", lossless=True)
    assert pixel(tmp_path / "half.webp") == (255, 127, 127)
    Image.new("LA", (2, 2), (0, 51)).save(tmp_path / "grey.png")
    assert pixel(tmp_path / "grey.png", "L") == 204
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([9, 9, 9, 10, 20, 30])
    palette.save(tmp_path / "opaque.png")
    assert pixel(tmp_path / "opaque.png") == (10, 20, 30)
    palette.save(tmp_path / "palette.png", transparency=1)
    assert pixel(tmp_path / "palette.png") == (255, 255, 255)
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert pixel(tmp_path / "key.png") == (255, 255, 255)


def test_other_colours_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 77).save(tmp_path / "grey.png")
    assert pixel(tmp_path / "grey.png") == (77, 77, 77)
    Image.new("1", (2, 2), 1).save(tmp_path / "bit.png")
    assert pixel(tmp_path / "bit.png") == (255, 255, 255)
    Image.new("CMYK", (2, 2), (255, 0, 0, 0)).save(tmp_path / "cyan.tif")
    assert pixel(tmp_path / "cyan.tif") == (0, 255, 255)
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "cyan.jpg", quality=100)
    assert np.allclose(pixel(tmp_path / "cyan.jpg"), (0, 255, 255), atol=2)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
def test_truncated_image_stops_with_its_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(noise(40, 40)).save(path)
    whole = path.read_bytes()
    assert read_pixels(path, "RGB").shape == (40, 40, 3)
    for length in (len(whole) // 2, 10, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedImageError, match=rf"photo\.{suffix}.*on_error: skip"):
            read_pixels(path, "RGB")


def test_a_missing_file_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.jpg cannot be opened") as caught:
        read_pixels(tmp_path / "gone.jpg", "RGB")
    assert not isinstance(caught.value, DamagedImageError)


def cropped(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As [rows, columns, C]."""
    return np.moveaxis(center_crop(pixels, size), 0, -1)


def published(pixels: np.ndarray, size: int) -> np.ndarray:
    """The crop of the published code, by PIL."""
    image = Image.fromarray(pixels)
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    values = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    top, left = (height - size) // 2, (width - size) // 2
    return values[top : top + size, left : left + size]


def test_an_image_of_the_right_size_is_left_alone() -> None:
    pixels = noise(12, 20)
    assert np.array_equal(cropped(pixels, (12, 20)), pixels)


def test_the_crop_is_the_middle() -> None:
    wide, tall = noise(10, 31), noise(31, 10)
    for pixels, middle in ((wide, wide[:, 10:20]), (tall, tall[10:20])):
        assert np.array_equal(cropped(pixels, (10, 10)), middle)


def test_large_images_are_halved_by_block_means_first() -> None:
    pixels = noise(32, 48)
    halves = pixels.reshape(16, 2, 24, 2, 3).mean((1, 3))
    quarters = halves.reshape(8, 2, 12, 2, 3).mean((1, 3))[:, 2:10]
    difference = cropped(pixels, (8, 8)) - quarters
    assert np.abs(difference).max() <= 2  # each halving rounds rows, then columns


@pytest.mark.parametrize("size", [(512, 1024), (513, 1024), (514, 771), (1026, 1539)])
def test_halving_is_that_of_the_published_code(size: tuple[int, int]) -> None:
    """For even sizes and odd ones: a size that needs no other scaling."""
    pixels = noise(*size)
    rows = size[0]
    while rows >= 2 * 256:
        rows //= 2
    assert np.array_equal(cropped(pixels, (rows, rows)), published(pixels, rows))


@pytest.mark.parametrize("source", [(375, 500), (500, 333), (257, 256), (140, 180), (1000, 1200)])
def test_all_scaling_is_that_of_the_published_code_by_a_grey_level(
    source: tuple[int, int],
) -> None:
    difference = cropped(noise(*source), (256, 256)).astype(int) - published(noise(*source), 256)
    assert np.abs(difference).max() <= 2
    assert (np.abs(difference) > 1).mean() < 1e-4
    assert (difference != 0).mean() < 0.02


@pytest.mark.parametrize("source", [(7, 100), (100, 7), (33, 65), (5, 5), (1, 1)])
@pytest.mark.parametrize("size", [(8, 16), (16, 8), (9, 9)])
def test_any_image_covers_any_size(source: tuple[int, int], size: tuple[int, int]) -> None:
    white = np.full((*source, 1), 255, np.uint8)
    covered = center_crop(white, size)
    assert covered.shape == (1, *size)
    assert covered.min() == 255
