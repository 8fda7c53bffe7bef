"""An observation, read and checked before anything is drawn."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rawdiff.data.array_files import OPENERS, open_array
from rawdiff.data.dataset import Array, DataInfo
from rawdiff.errors import UserError
from rawdiff.grid import PatchGrid
from rawdiff.steer.memory import require_memory
from rawdiff.steer.operator import Measure, Operator
from rawdiff.steer.operators import Mask
from rawdiff.steer.settings import ObserveSettings
from rawdiff.steer.stations import Stations, dim_names

NETCDF = (".nc", ".nc4", ".cdf", ".netcdf")
NUM_WORKING_COPIES = 16  # of an observation, while samples are drawn: all that a method keeps


def observe(
    settings: ObserveSettings,
    num_samples: int,
    batch_size: int,
    info: DataInfo,
    grid: PatchGrid,
    values: Tensor | Array | None = None,
) -> tuple[ObserveSettings, Tensor]:
    """What was observed of each sample: [num_samples, …] float32, NaN where nothing was seen.

    And the settings, with the positions of stations that came with the file. `values` stand for
    the file. UserError where they do not fit the operator, or hold nothing.
    """
    if values is None:
        settings, values = _read(settings, info, grid)
    elif not isinstance(values, Tensor):
        values = _as_array(values)
    one, found = _observed_shape(settings.operator, info, grid), tuple(values.shape)
    if found not in (one, (num_samples, *one)):
        raise UserError(
            f"The observation has the shape {list(found)}, but the operator gives {list(one)} of "
            f"each sample {list(info.shape)}. Give that, or [{num_samples}, "
            f"{', '.join(map(str, one))}] for {num_samples} samples that differ in it, or say by "
            "`operator` what else was observed."
        )
    num_values = math.prod(found)
    num_values += math.prod(one) * NUM_WORKING_COPIES * min(batch_size, num_samples)
    require_memory(num_values, "The observation, and what is computed with it,")
    y = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values, np.float32))
    y = y.detach().to("cpu", torch.float32)
    if bool(y.isinf().any()):
        raise UserError("The observation holds infinite values; write NaN where nothing was seen.")
    if y.numel() and bool(y.isnan().all()):
        raise UserError(
            "The observation holds nothing but NaN, which stands for what was not seen. Give some "
            "values, or leave out `observe` to draw samples freely."
        )
    return settings, y if found != one else y.expand(num_samples, *one)


def _as_array(values: Any) -> Array:
    """Numbers in whatever holds them; NaN where they are masked. UserError for all else."""
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.filled(values.astype(np.float32), np.nan)
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"`observe` is {values!r:.100}, no array of real numbers. Give the values that were "
            "observed; a file of them is for `rawdiff sample --observe FILE`."
        )
    return array


def _read(
    settings: ObserveSettings, info: DataInfo, grid: PatchGrid
) -> tuple[ObserveSettings, Array]:
    if settings.file is None:
        raise UserError("`sample.observe.file` is missing; it holds what was observed.")
    if settings.file.suffix.lower() in NETCDF:
        raise _not_netcdf(settings.file, info)
    if settings.file.suffix.lower() != ".csv":
        if settings.file.suffix.lower() not in OPENERS:
            kinds = ", ".join((*OPENERS, ".csv"))
            raise UserError(f"{settings.file} is of no known kind; a path must end in {kinds}.")
        stored = open_array(settings.file, None, default="x")
        require_memory(math.prod(stored.shape), f"What {settings.file} holds")
        return settings, stored[...]
    if not isinstance(settings.operator, Mask | Stations):
        raise UserError(
            f"{settings.file} is a table of stations; only `operator: stations` reads it. Save "
            "other observations as .npy."
        )
    stations, values = read_stations(settings.file, info, grid)
    return settings.model_copy(update={"operator": stations}), values


def _not_netcdf(path: Path, info: DataInfo) -> UserError:
    """Names, dims and directions may be others than the samples': the user lays it out."""
    axes = "; ".join(
        f"{name} from {values[0]:g} to {values[-1]:g}" for name, values in info.coordinates.items()
    )
    dims = ["variable", *info.coordinates] if info.coordinates else ["variable", ...]
    return UserError(
        f"{path} is NetCDF, which is not read here: save it as .npy [{len(info.channels)}, …], "
        f"in the order of the samples{f' ({axes})' if axes else ''}, NaN where nothing was seen. "
        f"In Python, with xarray: numpy.save('y.npy', xarray.open_dataset('{path}')"
        f"[{list(info.channels)}].to_array().transpose({', '.join(map(repr, dims))}))"
    )


def read_stations(path: Path, info: DataInfo, grid: PatchGrid) -> tuple[Stations, Array]:
    """Positions and values [C, S] of a table with a row for each station.

    Its columns are named by the dims and by channels; channels without a column, and empty cells,
    are not seen. UserError for others.
    """
    columns, table = _read_table(path)
    names = dim_names(info, grid)
    if lacking := [name for name in names if name not in columns]:
        raise UserError(
            f"{path} has no column `{lacking[0]}`; it has: {', '.join(columns) or 'none'}. A "
            f"station's place is given by {', '.join(names)}."
        )
    known = (*names, *info.channels)
    seen = [column for column in columns if column in info.channels]
    if strange := [column for column in columns if column not in known]:
        raise UserError(
            f"{path} has a column `{strange[0]}`, which is none of {', '.join(known)}. Rename it, "
            "or leave it out."
        )
    if not seen or not table:
        raise UserError(
            f"{path} holds no values: give a row for each station, and a column for at least one "
            f"of {', '.join(info.channels)}."
        )
    values = np.full((len(info.channels), len(table)), np.nan, dtype=np.float32)
    for column in seen:
        values[info.channels.index(column)] = _numbers(path, table, column)
    places = tuple(zip(*(_numbers(path, table, name) for name in names), strict=True))
    for line, place in zip(table, places, strict=True):
        if any(map(math.isnan, place)):
            raise UserError(
                f"{path}, line {line}: a station without a place; fill in {', '.join(names)}."
            )
    stations, lines = Stations(positions=places), list(table)
    stations.corners(info, grid, lambda number: f"{path}, line {lines[number]}: the station")
    return stations, values


def _read_table(path: Path) -> tuple[list[str], dict[int, dict[str, str]]]:
    """Names of the columns, and the cells of each line that has some, by its number in the file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            numbered = ((rows.line_num, row) for row in rows)
            table = {line: row for line, row in numbered if any(row.values())}
            columns = list(rows.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table: {error}.") from error
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise UserError(f"{path} has two columns `{twice[0]}`; leave out one of them.")
    if long := [line for line, cells in table.items() if rows.restkey in cells]:
        raise UserError(
            f"{path}, line {long[0]}: more cells than the {len(columns)} columns of the first row. "
            "Write 3.5, not 3,5."
        )
    return columns, table


def _numbers(path: Path, table: Mapping[int, dict[str, str]], column: str) -> list[float]:
    numbers = []
    for line, cells in table.items():
        text = (cells[column] or "").strip()
        try:
            number = float(text) if text else math.nan
        except ValueError:
            number = math.inf
        if math.isinf(number):
            raise UserError(f"{path}, line {line}: `{column}` is {text!r}, no number.")
        numbers.append(number)
    return numbers


def _observed_shape(operator: Operator, info: DataInfo, grid: PatchGrid) -> tuple[int, ...]:
    """(…) of what is observed of one sample. UserError where A cannot be applied, or derived."""
    measure: Measure = operator.measure(info, grid)
    x = torch.zeros(2, *info.shape, requires_grad=True)
    try:
        with torch.enable_grad():
            y = measure(x)
    except UserError:
        raise
    except Exception as error:  # anything that a function in Python may do
        raise UserError(
            f"The operator fails for samples [2, {', '.join(map(str, info.shape))}]: "
            f"{type(error).__name__}: {error}. It gets [B, C, …] in data units, and gives [B, …]."
        ) from error
    if not isinstance(y, Tensor) or y.dim() < 1 or len(y) != 2:
        found = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise UserError(
            f"The operator gives {found} of 2 samples {list(x.shape)}; it must give a tensor "
            "[B, …], with one row for each."
        )
    if not y.requires_grad:
        raise UserError(
            "What the operator gives cannot be derived by the samples. Write it in torch, without "
            "`detach`, `no_grad` or NumPy."
        )
    return tuple(y.shape[1:])
