"""The cells of a study: every combination of the grid's values, each a recipe of its own."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rawdiff.errors import UserError
from rawdiff.recipe import Recipe
from rawdiff.recipe_file import load_content, parse_recipe, read_grid_argument, with_value

MAX_VALUE_LENGTH = 32  # of a value in the name of a folder


@dataclass(frozen=True)
class GridKey:
    """A dotted recipe key and the values that it takes in turn."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """One combination: the value of each grid key, and the recipe of its run."""

    values: dict[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """Of its run's folder, such as `loss-v_prediction-x`."""
        return self.run.name

    @property
    def run(self) -> Path:
        return self.recipe.run_dir

    def beside_run(self, suffix: str) -> Path:
        """`<run>.yaml` for the recipe, `<run>.log` for what the commands print."""
        return self.run.with_name(self.run.name + suffix)

    def __str__(self) -> str:
        return ", ".join(f"{key}={shown(value)}" for key, value in self.values.items())


def parse_grid(arguments: Sequence[str]) -> tuple[GridKey, ...]:
    """`["flow.loss=x,v", "train.betas=[0.9,0.95],[0.9,0.99]"]` to keys and their values.

    Values are YAML; commas inside brackets, braces and quotes do not separate. Raises UserError
    for what is not of this form, and for keys that are given twice or lie within one another.
    """
    grid = tuple(_parse_key(argument) for argument in arguments)
    if not grid:
        raise UserError(
            "A study needs at least one grid key, such as --grid flow.prediction=x,eps,v."
        )
    for one, other in itertools.permutations(grid, 2):
        if _within(one.key, other.key):
            raise UserError(
                f"The grid keys `{other.key}` and `{one.key}` overlap; give each key once, and "
                "none inside another."
            )
    return grid


def _parse_key(argument: str) -> GridKey:
    key, values = read_grid_argument(argument)
    if key == "run_dir":
        raise UserError("`run_dir` is no grid key: each cell has a folder of its own (`--out`).")
    return GridKey(key, tuple(values))


def _within(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.")


def make_cells(
    recipe: str | Path, grid: Sequence[GridKey], overrides: Sequence[str], out: Path
) -> list[Cell]:
    """A cell for each combination; the last key changes fastest. Runs lie in `out/cells`.

    Raises UserError that names the cell if one of its recipes is wrong, if two cells are the same,
    or if an override sets what the grid or the study sets.
    """
    _require_free(grid, overrides)
    content = load_content(recipe, overrides)
    cells = []
    for values in _combinations(grid):
        own = content | {"run_dir": str(out / "cells" / _folder_name(values))}
        for key, value in values.items():
            own = with_value(own, key, value)
        where = ", ".join(f"{key}={shown(value)}" for key, value in values.items())
        cells.append(Cell(values, parse_recipe(own, f"{recipe} with {where}")))
    _require_different(cells)
    return cells


def _require_free(grid: Sequence[GridKey], overrides: Sequence[str]) -> None:
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key == "run_dir":
            raise UserError("A study has no `run_dir`; say where it lies with `--out FOLDER`.")
        if clash := [g.key for g in grid if _within(g.key, key) or _within(key, g.key)]:
            raise UserError(
                f"`{override}` sets what the grid key `{clash[0]}` sets; give one of both."
            )


def _combinations(grid: Sequence[GridKey]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*(key.values for key in grid)):
        yield {key.key: value for key, value in zip(grid, values, strict=True)}


def _require_different(cells: Sequence[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        plain = json.dumps(cell.recipe.plain() | {"run_dir": None}, sort_keys=True)
        for mark in (plain, cell.name):
            if (other := seen.setdefault(mark, cell)) is not cell:
                raise UserError(f"Two cells are the same: {other} and {cell}. Leave one out.")


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """`flow.loss` to `loss`, where no other key ends alike."""
    endings = Counter(key.rpartition(".")[2] for key in keys)
    return {key: end if endings[end := key.rpartition(".")[2]] == 1 else key for key in keys}


def _folder_name(values: dict[str, Any]) -> str:
    """The same for the same values, in whichever order the keys are given."""
    names = short_names(list(values))
    return "_".join(f"{names[key]}-{_safe(values[key])}" for key in sorted(values))


def _safe(value: Any) -> str:
    """A value as part of a file name; a checksum stands for what a name cannot hold."""
    plain = isinstance(value, list) and value and all(isinstance(v, int | float) for v in value)
    text = "x".join(map(str, value)) if plain else shown(value)
    kept = re.sub(r"[^\w.+-]+", "-", text).strip("-.") if not plain else text
    if kept == text and len(text) <= MAX_VALUE_LENGTH:
        return text
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
    return f"{kept[:MAX_VALUE_LENGTH]}-{digest[:8]}"


def shown(value: Any) -> str:
    """A value as one would write it on the command line."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), default=str)
