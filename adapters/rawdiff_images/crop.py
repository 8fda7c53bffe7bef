"""From an image file of any kind to 8-bit pixels of one size."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from rawdiff.errors import UserError

Mode = Literal["RGB", "L"]


class DamagedImageError(UserError):
    """The file is there and can be read, but no image comes out of it."""


def read_image(path: Path, mode: Mode) -> Image.Image:
    """The first image of a file, upright, in 8 bits: "RGB" or "L" (grey).

    Transparent pixels are laid on white; 16-bit grey values are scaled, not clipped; the camera's
    EXIF orientation is applied. Raises DamagedImageError if the file is cut short or holds no
    image, and UserError if it cannot be opened.
    """
    try:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return _eight_bits(image, mode)
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


def center_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of an image at (rows, columns), scaled so that it just covers them.

    The image is halved by a box filter while it stays at least twice as large as needed, then
    scaled with a bicubic filter: less aliasing than in one step. (The crop of guided-diffusion,
    Dhariwal and Nichol 2021, here for any ratio of the sides.)
    """
    rows, columns = size
    while image.width >= 2 * columns and image.height >= 2 * rows:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = max(columns / image.width, rows / image.height)
    covering = (round(image.width * scale), round(image.height * scale))
    image = image.resize(covering, Image.Resampling.BICUBIC)
    left, top = (image.width - columns) // 2, (image.height - rows) // 2
    return image.crop((left, top, left + columns, top + rows))
