"""Backbones to look at: the chain from two sides, its Ramachandran plot, its distance map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageDraw

from rawdiff import picture
from rawdiff.data.dataset import Array
from rawdiff_molecules.geometry import CA, distance_map
from rawdiff_molecules.peptide import torsions

T = TypeVar("T")

SIDE = 150  # of a panel, in pixels
FINE = 3  # drawn larger, then shrunk, so that edges are smooth
LINE_WIDTH = 4.0
LONGEST_BOND = 4.3  # Angstrom between CA; longer ones are no peptide bonds
BROKEN, FRAME, BACKGROUND = (200, 30, 30), (200, 200, 200), (255, 255, 255)
FARTHEST = 40.0  # Angstrom: the brightest colour of a distance map
POINT, POINT_RADIUS = (0, 114, 178), 1.6


def draw_backbones(backbones: Sequence[Array], *, first: int, columns: int) -> Image.Image:
    """One tile for each backbone [L, 4, 3], under its number: four panels.

    The chain from two sides, coloured from its first residue (dark) to its last (bright), bonds
    that are too long in red; phi and psi, each from -180 to 180; CA distances, dark where near.
    """
    panels = (_along_axes(0, 1), _along_axes(0, 2), draw_ramachandran, draw_map)
    titles = [f"{first + i}: {len(backbone)} residues" for i, backbone in enumerate(backbones)]
    return draw_tiles(backbones, titles, panels, columns=columns)


def draw_tiles(
    samples: Sequence[T],
    titles: Sequence[str],
    panels: Sequence[Callable[[T], Image.Image]],
    *,
    columns: int,
) -> Image.Image:
    """A tile for each sample, of panels two by two, under its title."""
    tiles = []
    for title, sample in zip(titles, samples, strict=True):
        images = [panel(sample) for panel in panels]
        tile = Image.new("RGB", (2 * SIDE, SIDE * math.ceil(len(images) / 2)), BACKGROUND)
        for k, image in enumerate(images):
            tile.paste(image, (k % 2 * SIDE, k // 2 * SIDE))
        tiles.append((title, tile))
    across = max(columns // 2, 1)
    return picture.draw_board([tiles[i : i + across] for i in range(0, len(tiles), across)])


def draw_trace(ca: Array, axes: tuple[int, int] = (0, 1)) -> Image.Image:
    """CA [L, 3] as a line, seen along the third of its principal axes; the nearest parts on top.

    A residue that is missing interrupts it.
    """
    image, pen = _panel()
    points = ca[np.isfinite(ca).all(axis=-1)]
    if len(points) > 1:
        centre = points.mean(axis=0)
        principal = np.linalg.svd(points - centre, full_matrices=False)[2]
        principal[2] = np.cross(principal[0], principal[1])  # never seen in a mirror
        turned = (ca - centre) @ principal.T
        depth = ({0, 1, 2} - {*axes}).pop()
        radius = np.nanmax(np.abs(turned)) * 1.08
        places = (turned[:, axes] / radius * [1, -1] + 1) / 2 * SIDE * FINE
        lengths = np.linalg.norm(np.diff(ca, axis=0), axis=-1)
        order = np.argsort((turned[1:, depth] + turned[:-1, depth]) * (1 if depth == 2 else -1))
        for i in (int(i) for i in order if np.isfinite(lengths[i])):
            colour = _shade(i / max(len(ca) - 2, 1)) if lengths[i] < LONGEST_BOND else BROKEN
            ends = [*places[i], *places[i + 1]]
            pen.line(ends, fill=BACKGROUND, width=round((LINE_WIDTH + 1.5) * FINE))
            pen.line(ends, fill=colour, width=round(LINE_WIDTH * FINE))
    return _shrunk(image, pen)


def _along_axes(a: int, b: int) -> Callable[[Array], Image.Image]:
    return lambda backbone: draw_trace(backbone[:, CA], (a, b))


def draw_ramachandran(backbone: Array) -> Image.Image:
    """phi to the right and psi upwards, -180 to 180, of each residue of [L, 4, 3]."""
    image, pen = _panel()
    middle, side = SIDE * FINE / 2, SIDE * FINE
    pen.line((middle, 0, middle, side), fill=FRAME, width=FINE)
    pen.line((0, middle, side, middle), fill=FRAME, width=FINE)
    joined = torch.ones(max(len(backbone) - 1, 0), dtype=torch.bool)
    phi, psi, _ = torsions(torch.from_numpy(backbone).double(), joined)
    r = POINT_RADIUS * FINE
    for x, y in torch.stack([phi, -psi], dim=-1).tolist():
        if math.isfinite(x) and math.isfinite(y):
            across, down = (middle + value / math.pi * middle for value in (x, y))
            pen.ellipse((across - r, down - r, across + r, down + r), fill=POINT)
    return _shrunk(image, pen)


def draw_map(backbone: Array) -> Image.Image:
    """Distances of CA of [L, 4, 3]; the first residue is at the upper left."""
    return draw_distances(distance_map(torch.from_numpy(backbone[:, CA]).double()).numpy())


def draw_distances(distances: Array) -> Image.Image:
    """Distances [L, L] in Angstrom, dark where near; grey where missing."""
    colours = _shade_all(distances / FARTHEST)
    colours[~np.isfinite(distances)] = picture.MISSING
    size = (SIDE - 6, SIDE - 6)
    panel = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    if len(distances):
        resampling = Image.Resampling.BOX if len(distances) > SIDE else Image.Resampling.NEAREST
        panel.paste(Image.fromarray(colours).resize(size, resampling), (3, 3))
    return panel


def _shade_all(places: Array) -> Array:
    """Colours, uint8 [..., 3], for 0 (dark) to 1 (bright)."""
    anchors = np.array(picture.VIRIDIS, dtype=np.float64)
    at = np.linspace(0, 1, len(anchors))
    known = np.nan_to_num(places).clip(0, 1)
    return np.rint(np.stack([np.interp(known, at, part) for part in anchors.T], axis=-1)).astype(
        np.uint8
    )


def _shade(place: float) -> tuple[int, ...]:
    return tuple(_shade_all(np.array(place)).tolist())


def _panel() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (SIDE * FINE, SIDE * FINE), BACKGROUND)
    return image, ImageDraw.Draw(image)


def _shrunk(image: Image.Image, pen: ImageDraw.ImageDraw) -> Image.Image:
    pen.rectangle((0, 0, image.width - 1, image.height - 1), outline=FRAME, width=1)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
