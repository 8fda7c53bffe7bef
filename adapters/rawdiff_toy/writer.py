"""Points as the paper's figure shows them: each one's place on the plane of the spiral."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from rawdiff.data.arrays import ArrayWriter
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.data.writer import Writer
from rawdiff_toy.plane import RADIUS, on_plane, spiral

SIDE = 240  # of the picture, in pixels
FINE = 4  # drawn larger, then shrunk, so that edges are smooth
VIEW = 1.3 * RADIUS  # the picture shows the plane from -VIEW to VIEW
POINT_RADIUS = 1.6
BACKGROUND, FRAME, LINE = (255, 255, 255), (200, 200, 200), (225, 225, 225)
POINT, OUTSIDE = (0, 114, 178), (213, 94, 0)
TEXT_SIZE = 13


class PlaneWriter(Writer):
    """A NumPy archive as `arrays` writes it, and a picture of the points on the spiral's plane.

    The true line is grey. Points that would lie outside the picture stand on its edge in orange,
    and their number is written there.
    """

    num_drawn: ClassVar[int] = 2000

    def write(
        self,
        samples: Array,
        folder: Path,
        *,
        info: DataInfo,
        first_index: int = 0,
        labels: Sequence[int] | None = None,
        place: Array | None = None,
    ) -> list[Path]:
        return ArrayWriter().write(
            samples, folder, info=info, first_index=first_index, labels=labels
        )

    def draw(
        self,
        samples: Array,
        *,
        info: DataInfo,
        labels: Sequence[int] | None = None,
        columns: int = 10,
    ) -> Image.Image:
        return draw_points(on_plane(torch.from_numpy(samples[..., 0])).numpy())


def draw_points(points: Array) -> Image.Image:
    """A square picture of points [n, 2] of the plane; samples that are not finite are left out."""
    side = SIDE * FINE
    image = Image.new("RGB", (side, side), BACKGROUND)
    pen = ImageDraw.Draw(image)
    line = spiral(torch.linspace(0, 1, 400, dtype=torch.float64).square()).numpy()
    pen.line(_pixels(line).flatten().tolist(), fill=LINE, width=2 * FINE, joint="curve")
    points = points[np.isfinite(points).all(axis=1)]
    outside = (np.abs(points) > VIEW).any(axis=1)
    for group, colour in ((points[~outside], POINT), (_to_edge(points[outside]), OUTSIDE)):
        r = POINT_RADIUS * FINE
        for x, y in _pixels(group):
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    pen.rectangle((0, 0, side - 1, side - 1), outline=FRAME, width=FINE)
    image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    if outside.any():
        text, font = (
            f"{outside.sum():,} of {len(points):,} outside",
            ImageFont.load_default(TEXT_SIZE),
        )
        place = (SIDE - 8, SIDE - 8)
        ImageDraw.Draw(image).text(
            place,
            text,
            fill=OUTSIDE,
            font=font,
            anchor="rs",
            stroke_width=3,  # readable on top of points
            stroke_fill=BACKGROUND,
        )
    return image


def _to_edge(points: Array) -> Array:
    """Points [n, 2] outside the picture, drawn in along the ray from its centre to just inside."""
    return points * (0.985 * VIEW / np.abs(points).max(axis=1, keepdims=True, initial=VIEW))


def _pixels(points: Array) -> Array:
    """Places [n, 2] in the large picture, x to the right and y up."""
    return (points * (1, -1) / VIEW + 1) / 2 * (SIDE * FINE - 1)
