"""Samples of any modality as one picture to look at: images, fields, volumes, lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rawdiff.data.dataset import Array, DataInfo
from rawdiff.errors import UserError
from rawdiff.files import atomic

Colour: TypeAlias = tuple[int, int, int]
Line: TypeAlias = tuple[str, Colour]

MAX_CHANNELS = 4
SMALL, LARGE = 64, 256  # of a panel's longer side, in pixels
MIN_TILE = 160
GAP, TILE_GAP, MARGIN = 2, 6, 10
TEXT_SIZE, LINE_HEIGHT = 12, 16
MAX_NAME = 24
BACKGROUND, TEXT = (255, 255, 255), (40, 40, 40)
MISSING = (211, 211, 211)
LINE_PANEL = (128, 64)
LINE_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
VIRIDIS = (
    (68, 1, 84),
    (71, 45, 123),
    (59, 82, 139),
    (44, 114, 142),
    (33, 145, 140),
    (40, 174, 128),
    (94, 201, 98),
    (173, 220, 48),
    (253, 231, 37),
)
"""Nine colours of matplotlib's map, evenly spaced in lightness. (van der Walt and Smith 2015)"""


def draw_samples(
    samples: Array,
    info: DataInfo,
    labels: Sequence[int] | None = None,
    *,
    columns: int = 10,
    like: Array | None = None,
    legend: bool = True,
) -> Image.Image:
    """One picture of samples [n, C, …] with 1 to 4 dims after the channels, NaN in light grey.

    A row for each class with its name, if there are labels [n] and any comes twice: the first
    `columns` of it. Otherwise all samples, `columns` to a row, each above its class's name.

    Three channels with a range of values are red, green and blue. Otherwise the first four
    channels are drawn one by one: in grey if there is a range, else in colours from a low to a
    high value (0.5 and 99.5 % of all shown lie below), which stand below in channel order.
    One dim becomes a line, two a panel, three the three central slices; of four, the centre of
    the first is shown. Panels under 64 pixels are enlarged by whole factors, those over 256 are
    shrunk. Colours and lines span the values of `like` [m, C, …] instead of the samples' own, so
    that several pictures compare. `legend` says whether names and values stand below.
    Raises UserError if samples cannot be drawn, or if labels do not belong to them.
    """
    _check(samples, labels)
    rows = _rows(len(samples), info, labels, columns)
    shown = _drawable(np.asarray(samples)[[index for _, row in rows for index in row]])
    grey, lines = _has_range(info), shown.ndim == 3
    rgb = grey and not lines and shown.shape[1] == 3
    limits = _limits(shown if like is None else _drawable(like), info)
    tiles = iter(
        [
            _lines(sample, limits) if lines else _panels(sample, limits, grey=grey, rgb=rgb)
            for sample in shown
        ]
    )
    pictures = [(name, [next(tiles) for _ in row]) for name, row in rows]
    if labels is not None and not any(name for name, _ in rows):
        names = [_class_name(info, label) for label in labels]
        width = max(map(_text_width, names))
        below = iter([_text(name, TEXT, width, LINE_HEIGHT) for name in names])
        pictures = [
            ("", [_joined((tile, next(below)), gap=0, down=True) for tile in row])
            for _, row in pictures
        ]
    return _page(pictures, [] if grey or not legend else _legend(info, limits, lines))


def draw_board(rows: Sequence[Sequence[tuple[str, Image.Image | str]]]) -> Image.Image:
    """Pictures of one size or less under their titles, in rows; a text stands on a grey tile."""
    images = [image for row in rows for _, image in row if not isinstance(image, str)]
    width = max([image.width for image in images], default=MIN_TILE)
    height = max([image.height for image in images], default=MIN_TILE)
    titles = [line for row in rows for title, _ in row for line in title.split("\n")]
    width = max(width, *(_text_width(line) for line in titles))
    lines = []
    for row in rows:
        tiles = []
        for title, image in row:
            above = [_text(line, TEXT, width, LINE_HEIGHT) for line in title.split("\n")]
            if isinstance(image, str):
                tile = Image.new("RGB", (width, height), MISSING)
                place = (width / 2, height / 2)
                ImageDraw.Draw(tile).text(place, image, fill=TEXT, font=_font(), anchor="mm")
            else:
                tile = image
            tile = _joined([*above, tile], gap=0, down=True)
            tiles.append(tile)
        lines.append(_joined(tiles, gap=2 * MARGIN))
    return _page([("", [line]) for line in lines], [])


@dataclass(frozen=True)
class Matrix:
    """Numbers [R, C] with names of rows and columns; NaN where there is none; ranks [R, C].

    Ranks run from 0 for the best number to 1 for the worst and give the colours.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Array
    ranks: Array


def draw_matrices(
    matrices: Sequence[Matrix], strips: Sequence[tuple[str, Image.Image]] = ()
) -> Image.Image:
    """Matrices below each other, bright cells the best, a frame around the very best (rank 0).

    Below them stand pictures, each under its title.
    """
    texts = [name for matrix in matrices for name in (*matrix.columns, "-0.0000")]
    cell = max(_text_width(text) for text in texts) + 2 * MARGIN
    names = max(_text_width(name) for matrix in matrices for name in matrix.rows) + MARGIN
    lines: list[Image.Image] = []
    for matrix in matrices:
        head = [_text(name, TEXT, cell, LINE_HEIGHT) for name in matrix.columns]
        lines.append(_text(matrix.title, TEXT, _text_width(matrix.title), 2 * LINE_HEIGHT))
        lines.append(_joined([_text("", TEXT, names, LINE_HEIGHT), *head], gap=0))
        for name, values, ranks in zip(matrix.rows, matrix.values, matrix.ranks, strict=True):
            cells = [_cell(*pair, cell) for pair in zip(values, ranks, strict=True)]
            lines.append(_joined([_text(name, TEXT, names, cells[0].height), *cells], gap=0))
    for title, image in strips:
        lines += [_text(title, TEXT, _text_width(title), 2 * LINE_HEIGHT), image]
    return _page([("", [_joined(lines, gap=0, down=True)])], [])


def _cell(value: float, rank: float, width: int) -> Image.Image:
    """A number on its colour."""
    height = 2 * LINE_HEIGHT
    if math.isnan(value):
        return Image.new("RGB", (width, height), MISSING)
    colour = tuple(_coloured(np.array(1 - rank), (0, 1), grey=False).tolist())
    image = Image.new("RGB", (width, height), colour)
    pen, text = ImageDraw.Draw(image), BACKGROUND if rank > 0.5 else (0, 0, 0)
    pen.text((MARGIN, height / 2), f"{value:#.4g}", fill=text, font=_font(), anchor="lm")
    if rank == 0:
        pen.rectangle((1, 1, width - 2, height - 2), outline=(213, 94, 0), width=3)
    return image


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG file; it appears whole or not at all."""
    with atomic(path) as file:
        image.save(file, format="PNG", optimize=True)


def _check(samples: Array, labels: Sequence[int] | None) -> None:
    if not 3 <= samples.ndim <= 6 or not samples.size:
        raise UserError(
            f"A picture shows samples [n, C, …] with 1 to 4 dims after the channels, but these "
            f"have the shape {list(samples.shape)}. Pass at least one, with its channel dim."
        )
    if labels is not None and len(labels) != len(samples):
        raise UserError(
            f"{len(labels)} labels for {len(samples)} samples; give one for each, or None."
        )


def _rows(
    num_samples: int, info: DataInfo, labels: Sequence[int] | None, columns: int
) -> list[tuple[str, list[int]]]:
    """Which samples stand in each row, and the row's name."""
    if labels is None or len(set(labels)) == num_samples:
        starts = range(0, num_samples, columns)
        return [("", list(range(i, min(i + columns, num_samples)))) for i in starts]
    return [
        (_class_name(info, label), [i for i, own in enumerate(labels) if own == label][:columns])
        for label in sorted(set(labels))
    ]


def _class_name(info: DataInfo, label: int) -> str:
    name = info.class_names[label] if label < info.num_classes else "no class"
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def _drawable(samples: Array) -> Array:
    """The channels that are shown, of at most three dims, float32."""
    if samples.ndim == 6:
        samples = samples[:, :, samples.shape[2] // 2]
    return np.asarray(samples[:, :MAX_CHANNELS], dtype=np.float32)


def _has_range(info: DataInfo) -> bool:
    return info.value_range is not None and all(map(math.isfinite, info.value_range))


def _limits(samples: Array, info: DataInfo) -> list[tuple[float, float]]:
    """For each channel the values drawn darkest and brightest, or lowest and highest."""
    if info.value_range is not None and _has_range(info):
        return [info.value_range] * samples.shape[1]
    shares = (0, 100) if samples.ndim == 3 else (0.5, 99.5)  # an outlier must not darken the rest
    limits = []
    for channel in samples.swapaxes(0, 1):
        known = channel[np.isfinite(channel)]
        low, high = np.percentile(known, shares) if known.size else (0.0, 0.0)
        limits.append((float(low), float(high)))
    return limits


def _scaled(values: Array, limits: tuple[float, float]) -> Array:
    """Limits to 0 and 1; a constant becomes 0.5. NaN stays."""
    low, high = limits
    if high <= low:
        return np.where(np.isnan(values), np.nan, 0.5)
    return ((values - low) / (high - low)).clip(0, 1)


def _coloured(values: Array, limits: tuple[float, float], *, grey: bool) -> Array:
    """Values [*sizes] as colours, uint8 [*sizes, 3]."""
    anchors = np.array([(0, 0, 0), (255, 255, 255)] if grey else VIRIDIS, dtype=np.float64)
    scaled = _scaled(values, limits)
    places = np.linspace(0, 1, len(anchors))
    colours = np.stack([np.interp(scaled, places, anchor) for anchor in anchors.T], axis=-1)
    colours[np.isnan(values)] = MISSING
    return np.rint(colours).astype(np.uint8)


def _panels(
    sample: Array, limits: list[tuple[float, float]], *, grey: bool, rgb: bool
) -> Image.Image:
    """Channels of a 2-D sample side by side; of a 3-D one below each other, with slices beside."""
    channels = [
        _coloured(values, own, grey=grey) for values, own in zip(sample, limits, strict=True)
    ]
    if rgb:
        merged = np.stack([channel[..., 0] for channel in channels], axis=-1)
        merged[np.isnan(sample).any(axis=0)] = MISSING
        channels = [merged]
    if sample.ndim == 3:
        rows = [channels]
    else:
        depth, height, width = sample.shape[1:]
        rows = [
            [volume[depth // 2], volume[:, height // 2], volume[:, :, width // 2]]
            for volume in channels
        ]
    factor = _factor(max(sample.shape[1:]))
    panels = [[_resized(panel, factor) for panel in row] for row in rows]
    return _joined([_joined(row, gap=GAP) for row in panels], gap=GAP, down=True)


def _factor(length: int) -> float:
    """How much larger a panel is drawn than its `length` values."""
    return max(round(SMALL / length), 1) if length <= LARGE else LARGE / length


def _resized(pixels: Array, factor: float) -> Image.Image:
    height, width = (max(round(length * factor), 1) for length in pixels.shape[:2])
    resampling = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    return Image.fromarray(pixels).resize((width, height), resampling)


def _lines(sample: Array, limits: list[tuple[float, float]]) -> Image.Image:
    """All channels of a 1-D sample as lines in one panel; a missing value breaks its line."""
    width, height = (4 * length for length in LINE_PANEL)  # drawn large, so that lines are smooth
    panel = Image.new("RGB", (width, height), (247, 247, 247))
    pen = ImageDraw.Draw(panel)
    across = np.linspace(0, width - 1, sample.shape[1])
    for values, own, colour in zip(sample, limits, LINE_COLOURS, strict=False):
        points = np.stack([across, (0.95 - 0.9 * _scaled(values, own)) * (height - 1)], axis=1)
        for run in np.split(points, np.flatnonzero(np.isnan(values))):
            known = run[np.isfinite(run[:, 1])]
            if len(known) > 1:
                pen.line(known.flatten().tolist(), fill=colour, width=5, joint="curve")
    return panel.resize(LINE_PANEL, Image.Resampling.LANCZOS)


def _page(rows: Sequence[tuple[str, list[Image.Image]]], legend: list[Line]) -> Image.Image:
    """Rows of tiles below each other, each row's name at its left, the legend at the bottom."""
    name_width = max(_text_width(name) for name, _ in rows)
    lines = []
    for name, tiles in rows:
        label = [_text(name, TEXT, name_width, tiles[0].height)] if name_width else []
        lines.append(_joined([*label, *tiles], gap=TILE_GAP))
    lines += [_text(text, colour, _text_width(text), LINE_HEIGHT) for text, colour in legend]
    content = _joined(lines, gap=TILE_GAP, down=True)
    page = Image.new("RGB", (content.width + 2 * MARGIN, content.height + 2 * MARGIN), BACKGROUND)
    page.paste(content, (MARGIN, MARGIN))
    return page


def _joined(images: Sequence[Image.Image], *, gap: int, down: bool = False) -> Image.Image:
    """Images side by side, or below each other."""
    widths, heights = [image.width for image in images], [image.height for image in images]
    gaps = gap * (len(images) - 1)
    size = (max(widths), sum(heights) + gaps) if down else (sum(widths) + gaps, max(heights))
    joined = Image.new("RGB", size, BACKGROUND)
    place = 0
    for image in images:
        joined.paste(image, (0, place) if down else (place, 0))
        place += (image.height if down else image.width) + gap
    return joined


def _legend(info: DataInfo, limits: list[tuple[float, float]], lines: bool) -> list[Line]:
    """Each shown channel's name and its smallest and largest value, in its line's colour."""
    units = info.units or ("",) * len(info.channels)
    entries = [
        (f"{name}: {low:.4g} to {high:.4g} {unit}".strip(), LINE_COLOURS[i] if lines else TEXT)
        for i, (name, unit, (low, high)) in enumerate(
            zip(info.channels, units, limits, strict=False)
        )
    ]
    hidden = len(info.channels) - len(limits)
    return [*entries, (f"and {hidden} channels more", TEXT)] if hidden else entries


def _text(text: str, colour: Colour, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (max(width, 1), height), BACKGROUND)
    ImageDraw.Draw(image).text((0, height / 2), text, fill=colour, font=_font(), anchor="lm")
    return image


def _text_width(text: str) -> int:
    return math.ceil(_font().getlength(text))


@cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(TEXT_SIZE)
