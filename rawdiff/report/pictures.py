"""Pictures inside the page: small enough that all of them together stay under a few MB."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from rawdiff.conditions import spread
from rawdiff.draw.sample_set import PICTURE
from rawdiff.report.record import Record

MAX_BYTES = 250_000  # of one picture
LARGE, SMALL = 1100, 640  # of a picture's longer side, in pixels
MAX_SHOWN = 8


class Picture(NamedTuple):
    """With its size on the page, so that nothing moves while it loads."""

    title: str
    data: str
    width: int
    height: int


def newest(record: Record) -> Picture | None:
    """What `rawdiff sample` drew, or else the last picture of training."""
    drawn = record.folder.samples / PICTURE
    if drawn.is_file() and (found := embed(drawn, "Drawn by `rawdiff sample`", LARGE)):
        return found
    for step, path in reversed(record.pictures.items()):
        if found := embed(path, f"After step {step:,}", LARGE):
            return found
    return None


def over_training(record: Record) -> list[Picture]:
    """Evenly chosen from first to last, MAX_SHOWN at most; none where there is but one."""
    steps = list(record.pictures)
    chosen = [steps[i] for i in spread(MAX_SHOWN, len(steps))]
    if chosen:
        chosen[-1] = steps[-1]
    found = [embed(record.pictures[step], f"step {step:,}", SMALL) for step in chosen]
    shown = [one for one in found if one is not None]
    return shown if len(shown) > 1 else []


def tuning(record: Record) -> Picture | None:
    """What `rawdiff tune` tried, as its own picture."""
    return embed(record.folder.tune / "picture.png", "What was tried", LARGE)


def embed(path: Path, title: str, longest: int) -> Picture | None:
    """A file of pixels as a data URI of MAX_BYTES at most; None where it cannot be read."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError):
        return None
    while True:
        small = image.copy()
        small.thumbnail((longest, longest))
        kind, content = _encoded(small)
        if len(content) <= MAX_BYTES or longest < 64:
            data = base64.b64encode(content).decode()
            return Picture(title, f"data:image/{kind};base64,{data}", *small.size)
        longest = longest * 3 // 4


def _encoded(image: Image.Image) -> tuple[str, bytes]:
    """PNG, which keeps every pixel, or JPEG where that is too large."""
    for kind, settings in (("png", {"optimize": True}), ("jpeg", {"quality": 85})):
        file = io.BytesIO()
        image.save(file, format=kind, **settings)
        if len(file.getvalue()) <= MAX_BYTES:
            break
    return kind, file.getvalue()
