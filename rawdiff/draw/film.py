"""Pictures one after the other as an animated GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from rawdiff.files import atomic
from rawdiff.picture import BACKGROUND, draw_board

STAGE_SECONDS, LAST_SECONDS = 0.12, 3.0


def save_film(stages: Sequence[Image.Image], titles: Sequence[str], path: Path) -> None:
    """Write pictures, each under its title; the last one stays longer, and then it begins anew.

    The file appears whole or not at all.
    """
    size = (max(stage.width for stage in stages), max(stage.height for stage in stages))
    first, *others = (
        _page(title, stage, size) for title, stage in zip(titles, stages, strict=True)
    )
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


def _page(title: str, stage: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Of one size, in colours of its own."""
    page = Image.new("RGB", size, BACKGROUND)
    page.paste(stage)
    return draw_board([[(title, page)]]).quantize(256, dither=Image.Dither.NONE)
