"""From an image file of any kind to upright 8-bit pixels."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps

from rawdiff.data.dataset import Array
from rawdiff.errors import UserError

try:
    import simplejpeg
except ModuleNotFoundError:  # faster, and the same pixels; PIL does without it
    simplejpeg = None

Mode = Literal["RGB", "L"]
ORIENTATION = 0x0112  # the EXIF tag


class DamagedImageError(UserError):
    """The file is there and can be read, but no image comes out of it."""


def read_pixels(path: Path, mode: Mode, *, covering: tuple[int, int] | None = None) -> Array:
    """The first image of a file [H, W, C], upright, in 8 bits: 3 channels "RGB" or 1 "L" (grey).

    Transparent pixels are laid on white; 16-bit grey values are scaled, not clipped; the camera's
    EXIF orientation is applied. An upright JPEG that is at least twice as large as `covering`
    (rows, columns) comes at 1/2, 1/4 or 1/8 of its size, of which less is decoded: nearly the means
    of blocks of its pixels. Raises DamagedImageError if the file is cut short or holds no
    image, and UserError if it cannot be opened.
    """
    try:
        with path.open("rb") as file, Image.open(file) as image:
            pixels = _decode(file, image, mode, covering)
            return pixels.reshape(*pixels.shape[:2], -1)  # PIL gives grey pixels as [H, W]
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything at a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(
                f"{path} cannot be opened: {error.strerror}. Mend its rights or its disk, or "
                "remove it from the folder."
            ) from error
        raise DamagedImageError(
            f"{path} holds no whole image: {error}. Replace or delete it, or write "
            "`on_error: skip` under `data:` to let a neighbour stand in for such images."
        ) from error


def _decode(
    file: BinaryIO, image: Image.Image, mode: Mode, covering: tuple[int, int] | None
) -> Array:
    if image.format == "JPEG" and image.getexif().get(ORIENTATION, 1) == 1:
        size = image.size
        drafted = covering and image.draft(None, covering[::-1])
        if drafted and image.size != size:
            _, (_, _, width, height) = drafted
            return np.array(image.convert(mode))[: int(height), : int(width)]  # as halving does
        if (pixels := _whole_jpeg(file, image.mode, mode)) is not None:
            return pixels
    ImageOps.exif_transpose(image, in_place=True)
    return np.array(_eight_bits(image, mode))


def _whole_jpeg(file: BinaryIO, stored: str, mode: Mode) -> Array | None:
    """Pixels of a sound JPEG, the same as by PIL; None if it takes PIL to read or to judge it."""
    if simplejpeg is None or stored not in ("L", mode):
        return None
    file.seek(0)
    try:
        return simplejpeg.decode_jpeg(file.read(), "RGB" if mode == "RGB" else "GRAY")
    except ValueError:
        return None


def _eight_bits(image: Image.Image, mode: Mode) -> Image.Image:
    if image.mode.startswith("I"):
        image = _from_16_bits(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, which have no white and no black")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert(mode)


def _from_16_bits(image: Image.Image) -> Image.Image:
    """PIL gives 16-bit grey images as "I;16" or as 32-bit "I"; its own conversion clips at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"its values run from {values.min()} to {values.max()}; 8 or 16 bits were expected"
        )
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
