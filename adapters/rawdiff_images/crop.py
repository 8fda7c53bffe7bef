"""From pixels of any size to the middle at one size."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from rawdiff.data.dataset import Array


def center_crop(pixels: Array, size: tuple[int, int]) -> Array:
    """The middle of 8-bit pixels [H, W, C] as [C, rows, columns], scaled to just cover them.

    The image is halved by a box filter while it stays at least twice as large as needed, then
    scaled with a bicubic filter: less aliasing than in one step. (The crop of guided-diffusion,
    Dhariwal and Nichol 2021, here for any ratio of the sides.) C is at most 4.
    """
    rows, columns = size
    while pixels.shape[0] >= 2 * rows and pixels.shape[1] >= 2 * columns:
        pixels = _halved(pixels)
    height, width, _ = pixels.shape
    scale = max(rows / height, columns / width)
    height, width = round(height * scale), round(width * scale)
    scaled = _resized(pixels, (height, width), "bicubic", antialias=True)
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = scaled[top : top + rows, left : left + columns]
    return np.ascontiguousarray(np.moveaxis(middle, -1, 0))


def _halved(pixels: Array) -> Array:
    """Means of columns rounded, then of rows, as PIL has them; odd sizes lose half a pixel."""
    height, width, _ = pixels.shape
    half = (height // 2, width // 2)
    if height % 2 == 0 == width % 2:  # halfway between two pixels, a linear filter is their mean
        return _resized(pixels, half, "bilinear", antialias=False)
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    return np.array(image.resize(half[::-1], Image.Resampling.BOX)).reshape(*half, -1)


def _resized(
    pixels: Array, size: tuple[int, int], mode: Literal["bilinear", "bicubic"], *, antialias: bool
) -> Array:
    """By torch, several times as fast as PIL with the same filters; [H, W, C] to [*size, C]."""
    image = torch.from_numpy(np.ascontiguousarray(pixels))[None].permute(0, 3, 1, 2)
    scaled = F.interpolate(image, size=size, mode=mode, antialias=antialias)
    return scaled[0].permute(1, 2, 0).numpy()
