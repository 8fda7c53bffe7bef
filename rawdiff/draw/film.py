"""Pictures one after the other as an animated GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from rawdiff.files import atomic
from rawdiff.picture import BACKGROUND, draw_board

STAGE_SECONDS, LAST_SECONDS = 0.12, 3.0
MAX_COLUMNS, MAX_ROWS = 4, 4
MAX_WIDTH, MAX_HEIGHT = 640, 400  # of each picture of a stage: noise fills a file like nothing else


def num_fitting(one: Image.Image) -> tuple[int, int]:
    """Columns and rows of samples in a picture of a stage, of which this is one."""
    columns = min(max(MAX_WIDTH // one.width, 1), MAX_COLUMNS)
    return columns, min(max(MAX_HEIGHT // one.height, 1), MAX_ROWS)


def save_film(
    stages: Sequence[Sequence[Image.Image]], titles: Sequence[Sequence[str]], path: Path
) -> None:
    """Write the pictures of each stage, each under its title; the last stage stays longer.

    They stand side by side, or, where they are wider than high, below each other. Then it begins
    anew. The file appears whole or not at all.
    """
    pictures = [picture for stage in stages for picture in stage]
    size = (max(one.width for one in pictures), max(one.height for one in pictures))
    first, *others = (_page(*which, size) for which in zip(titles, stages, strict=True))
    seconds = [*[STAGE_SECONDS] * len(others), LAST_SECONDS]
    with atomic(path) as file:
        first.save(
            file,
            format="GIF",
            save_all=True,
            append_images=others,
            duration=[round(1000 * own) for own in seconds],
            loop=0,
        )


def _page(
    titles: Sequence[str], stage: Sequence[Image.Image], size: tuple[int, int]
) -> Image.Image:
    """Of one size, in colours of its own."""
    tiles = []
    for title, picture in zip(titles, stage, strict=True):
        tile = Image.new("RGB", size, BACKGROUND)
        tile.paste(picture)
        tiles.append((title, tile))
    width, height = size
    rows = [[tile] for tile in tiles] if width > height else [tiles]
    return draw_board(rows).quantize(256, dither=Image.Dither.NONE)
