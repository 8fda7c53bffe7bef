"""Scores of several forecasts as tables: for the terminal, CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from rawdiff_weather.scores import Row

T = TypeVar("T")
Tables: TypeAlias = dict[str, dict[str, list[Row]]]
"""Of each forecast by name what `ForecastScores.result` gives."""

HEADLINES = ("rmse", "crps", "spread_skill")
MAX_CHANNELS, MAX_LEADS = 8, 6  # of the table in the terminal; files have all


def some(values: Sequence[T], most: int) -> list[T]:
    """At most so many, spread evenly from the first to the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def channel_name(row: Row) -> str:
    return row["variable"] if row["level"] is None else f"{row['variable']}@{row['level']:g}"


def headlines(tables: Tables, lead_names: dict[int, str]) -> dict[str, dict[str, float]]:
    """By column, then `rmse/z500/3 days`: of all the Earth, what a terminal can show."""
    return {
        name: {
            f"{row['score']}/{channel_name(row)}/{lead_names[row['lead']]}": row["value"]
            for row in _shown(table["scores"])
        }
        for name, table in tables.items()
    }


def _shown(rows: list[Row]) -> Iterator[Row]:
    leads = some(sorted({row["lead"] for row in rows}), MAX_LEADS)
    channels = list(dict.fromkeys(channel_name(row) for row in rows))[:MAX_CHANNELS]
    for score in HEADLINES:
        for row in rows:
            whole = row["region"] == "global" and row["lead"] in leads
            shown = row["score"] == score and whole and channel_name(row) in channels
            if shown and math.isfinite(row["value"]):
                yield row


def write_tables(folder: Path, tables: Tables) -> None:
    """scores.csv, one row for each score; and all with ranks and spectra as JSON."""
    with (folder / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        keys = ("variable", "level", "lead", "region", "score", "value")
        writer.writerow(("forecast", *keys))
        for name, table in tables.items():
            writer.writerows([name, *(row[key] for key in keys)] for row in table["scores"])
    content = {
        name: {kind: [_without_nan(row) for row in rows] for kind, rows in table.items()}
        for name, table in tables.items()
    }
    (folder / "scores.json").write_text(json.dumps(content, allow_nan=False))


def _without_nan(row: Row) -> Row:
    """NaN, which JSON does not have, as null."""

    def mended(value: Any) -> Any:
        if isinstance(value, list):
            return [mended(one) for one in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {key: mended(value) for key, value in row.items()}
