"""The picture of a study: samples and score of each cell, beside real held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from rawdiff.assemble import make_writer
from rawdiff.conditions import real_batch, spread
from rawdiff.data.dataset import Array
from rawdiff.data.writer import Writer
from rawdiff.evaluate.report import GENERATED, ORACLE
from rawdiff.picture import MARGIN, draw_board, draw_samples, save_png
from rawdiff.saved.folder import RunFolder
from rawdiff.study.cells import Cell, short_names, shown
from rawdiff.study.plan import Planned
from rawdiff.study.stages import NUM_SHOWN, Result, is_previewed, is_sampled, preview_folder
from rawdiff.study.table import Outcome, number, score_of

Tile = tuple[str, Image.Image | str]

COLUMNS = 4  # of samples in a tile
MAX_TILE = 320  # pixels
MAX_TILES_IN_ROW = 6  # where the grid has not two keys
MAX_VALUE = 24  # letters of a value in a title


@dataclass(frozen=True)
class Board:
    """Draws the picture as often as cells end; real data are read once."""

    planned: Sequence[Planned]

    @cached_property
    def _real(self) -> dict[int, Array]:
        """Held-out samples [n, C, …] of each of the data sets that cells train on, by `id`."""
        found: dict[int, Array] = {}
        for one in self.planned:
            if id(one.data) not in found:
                held_out = one.data.real
                num = _writer(one).num_drawn if _draws_itself(one) else NUM_SHOWN
                batch = real_batch(held_out, spread(num, len(held_out)))
                found[id(one.data)] = batch.x.float().numpy()
        return found

    def write(self, outcome: Outcome, path: Path) -> None:
        """A row for each value of the second of two keys; otherwise all cells in the grid's order.

        Real data stand at the end, once for each set of data that cells train on.
        """
        cells = [
            self._tile(outcome, one, result)
            for one, result in zip(self.planned, outcome.results, strict=True)
        ]
        real = [self._real_tile(outcome, key) for key in self._real]
        if len(outcome.grid) == 2:
            num_rows = len(outcome.grid[1].values)
            rows = [cells[i::num_rows] for i in range(num_rows)]
            rows += [[] for _ in real[num_rows:]]
            for row, tile in zip(rows, real, strict=False):
                row.append(tile)
        else:
            tiles = cells + real
            rows = [tiles[i : i + MAX_TILES_IN_ROW] for i in range(0, len(tiles), MAX_TILES_IN_ROW)]
        save_png(draw_board(rows), path)

    def _tile(self, outcome: Outcome, one: Planned, result: Result) -> Tile:
        """The first samples of a cell under its values and its score."""
        metric = outcome.metric
        scores = {} if metric is None else score_of(result, metric)
        line = _score(metric, scores.get(GENERATED))
        if metric is not None and ORACLE in scores and outcome.has_own_oracles(metric):
            line += f" (real {number(scores[ORACLE])})"
        state = result.status.partition(":")[0]
        title = f"{_values(one.cell)}\n{line or state}"
        if _draws_itself(one) and is_sampled(one.cell):
            return title, _fitting(Image.open(RunFolder(one.cell.run).samples / "picture.png"))
        if not is_previewed(one.cell):
            return title, state
        return title, self._samples(one, read_preview(one.cell))

    def _real_tile(self, outcome: Outcome, key: int) -> Tile:
        own = [
            (one, result)
            for one, result in zip(self.planned, outcome.results, strict=True)
            if id(one.data) == key
        ]
        metric = outcome.metric
        oracle = None if metric is None else outcome.oracle(metric, [r for _, r in own])
        image = self._samples(own[0][0], self._real[key])
        return f"{ORACLE}\n{_score(metric, oracle)}", image

    def _samples(self, one: Planned, samples: Array) -> Image.Image:
        info = one.data.train.info
        if _draws_itself(one):
            return _fitting(_writer(one).draw(samples, info=info))
        like = self._real[id(one.data)]
        image = draw_samples(samples, info, columns=COLUMNS, like=like, legend=False)
        return _fitting(image.crop((MARGIN, MARGIN, image.width - MARGIN, image.height - MARGIN)))


def _writer(one: Planned) -> Writer:
    return make_writer(one.cell.recipe, one.data.train.info)


def _draws_itself(one: Planned) -> bool:
    """Whether the field has a picture of its own, which is then the cell's tile."""
    return type(_writer(one)).draw is not Writer.draw


def _fitting(image: Image.Image) -> Image.Image:
    image.thumbnail((MAX_TILE, MAX_TILE))
    return image


def read_preview(cell: Cell) -> Array:
    """The samples [n, C, …] of the cell that are shown."""
    archives = sorted(preview_folder(cell).glob("samples-*.npz"))
    parts = []
    for archive in archives:
        with np.load(archive) as arrays:
            parts.append(arrays["x"])
    return np.concatenate(parts)


def _values(cell: Cell) -> str:
    names = short_names(list(cell.values))
    texts = {key: shown(value) for key, value in cell.values.items()}
    short = {k: t if len(t) <= MAX_VALUE else f"...{t[3 - MAX_VALUE :]}" for k, t in texts.items()}
    return ", ".join(f"{names[key]} {text}" for key, text in short.items())


def _score(metric: str | None, value: float | None) -> str:
    """Name and value of the score; empty if there is none."""
    return "" if value is None else f"{metric} {number(value)}"
