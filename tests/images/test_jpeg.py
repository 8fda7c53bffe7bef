"""JPEG files come faster than other ones, with the pixels that PIL gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rawdiff_images import pixels as pixels_module
from rawdiff_images.crop import center_crop
from rawdiff_images.folder import ImageFolder
from rawdiff_images.pixels import ORIENTATION, read_pixels

from rawdiff.data.dataset import Array

SIZES = [(1, 1), (3, 5), (16, 16), (37, 61), (200, 150)]


def photograph(height: int, width: int, channels: int = 3) -> Array:
    """Smooth, with some noise on top."""
    rng = np.random.default_rng(height)
    coarse = rng.uniform(0, 255, (3 + height // 30, 3 + width // 30, channels))
    layers = [Image.fromarray(layer).resize((width, height)) for layer in np.moveaxis(coarse, 2, 0)]
    noisy = np.stack(layers, -1) + rng.normal(0, 4, (height, width, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def save(path: Path, values: Array, **keys: Any) -> Path:
    image = Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)
    image.save(path, quality=92, **keys)
    return path


@pytest.fixture
def by_pil(monkeypatch) -> Any:
    """read_pixels where simplejpeg is not installed."""

    def read(path: Path, mode: Any) -> Array:
        with monkeypatch.context() as patch:
            patch.setattr(pixels_module, "simplejpeg", None)
            return read_pixels(path, mode)

    return read


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Colours of the pixels that simplejpeg gave."""
    simplejpeg = pytest.importorskip("simplejpeg")
    given: list[str] = []

    class Counting:
        @staticmethod
        def decode_jpeg(data: bytes, colours: str) -> Array:
            decoded = simplejpeg.decode_jpeg(data, colours)
            given.append(colours)
            return decoded

    monkeypatch.setattr(pixels_module, "simplejpeg", Counting)
    return given


@pytest.mark.parametrize("size", SIZES)
def test_both_decoders_give_the_same_pixels(tmp_path, by_pil, calls, size) -> None:
    settings: list[dict[str, Any]] = [
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"subsampling": "4:2:0"},
        {"progressive": True},
    ]
    for number, keys in enumerate(settings):
        path = save(tmp_path / f"{number}.jpg", photograph(*size), **keys)
        assert np.array_equal(read_pixels(path, "RGB"), by_pil(path, "RGB")), keys
        assert np.array_equal(read_pixels(path, "L"), by_pil(path, "L")), keys
    grey = save(tmp_path / "grey.jpg", photograph(*size, 1))
    for mode in ("RGB", "L"):
        assert np.array_equal(read_pixels(grey, mode), by_pil(grey, mode)), mode
    assert calls == ["RGB"] * 5 + ["GRAY"]


def test_photographs_have_the_same_pixels_by_both_decoders(shared: Path, by_pil, calls) -> None:
    for name in ("imagenet-sample", "tiny-imagenet-20x500"):
        paths = sorted((shared / "data" / "images" / name).rglob("*.JPEG"))
        for path in paths[:: len(paths) // 40]:
            assert np.array_equal(read_pixels(path, "RGB"), by_pil(path, "RGB")), path
    assert len(calls) > 70


def test_what_the_fast_decoder_cannot_judge_is_left_to_pil(tmp_path, by_pil, calls) -> None:
    path = save(tmp_path / "a.jpg", photograph(64, 64))
    data = bytearray(path.read_bytes())
    data[-200:-150] = b"\x5a" * 50  # nonsense in the middle of the pixels
    path.write_bytes(data)
    assert np.array_equal(read_pixels(path, "RGB"), by_pil(path, "RGB"))
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "cyan.jpg")
    assert np.array_equal(
        read_pixels(tmp_path / "cyan.jpg", "RGB"), by_pil(tmp_path / "cyan.jpg", "RGB")
    )
    assert not calls


@pytest.mark.parametrize("covering", [None, (8, 8)])
def test_a_photograph_taken_turned_comes_out_upright(tmp_path: Path, covering) -> None:
    values = photograph(60, 90)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = save(tmp_path / "a.jpg", np.ascontiguousarray(np.rot90(values)), exif=exif)
    read = read_pixels(path, "RGB", covering=covering).astype(int)
    assert np.abs(read - values).mean() < 4


def test_reduced_decoding_gives_nearly_the_means_of_blocks(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", photograph(256, 384))
    whole = read_pixels(path, "RGB").astype(float)
    for size, factor in ((128, 2), (100, 2), (64, 4), (32, 8), (8, 8)):
        reduced = read_pixels(path, "RGB", covering=(size, size))
        blocks = whole.reshape(256 // factor, factor, 384 // factor, factor, 3).mean((1, 3))
        assert reduced.shape == blocks.shape
        assert np.abs(reduced - blocks).mean() < 1


def test_reduced_decoding_leaves_what_is_not_twice_as_large(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", photograph(200, 399))
    for covering in ((101, 101), (80, 200), (200, 399), (400, 400)):
        reduced = read_pixels(path, "RGB", covering=covering)
        assert np.array_equal(reduced, read_pixels(path, "RGB"))


def test_a_reduced_photograph_keeps_its_place(tmp_path: Path) -> None:
    """Also where its size is odd: it is rounded as halving rounds it."""
    for rows, columns in ((375, 500), (333, 500), (333, 501)):
        path = save(tmp_path / f"{columns}.jpg", photograph(rows, columns))
        exact = center_crop(read_pixels(path, "RGB"), (128, 128)).astype(int)
        reduced = center_crop(read_pixels(path, "RGB", covering=(128, 128)), (128, 128))
        assert np.abs(reduced - exact).mean() < 3


def test_a_folder_decodes_as_its_recipe_says(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    save(tmp_path / "ant" / "a.jpg", photograph(256, 256))
    full = ImageFolder(path=tmp_path, size=64)[0].x.astype(int)
    reduced = ImageFolder(path=tmp_path, size=64, decode="reduced")[0].x
    assert 0 < np.abs(full - reduced).mean() < 1.5
