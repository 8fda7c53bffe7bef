"""One HTML page about forecasts: scores over lead, ranks, spectra, maps; pictures are inside."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rawdiff.evaluate.report import GENERATED
from rawdiff_weather.axes import Fields, Floats
from rawdiff_weather.scores import Row
from rawdiff_weather.selection import Channel
from rawdiff_weather.tables import Tables, channel_name, some

MAX_CHANNELS, MAX_LEADS = 4, 4
TITLES = {
    "rmse": "RMSE",
    "crps": "CRPS",
    "spread_skill": "spread / skill",
    "acc": "anomaly correlation",
}
COLOURS = ("#c02020", "#7f7f7f", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b")
MODEL_COLOUR = COLOURS[0]


class Maps(NamedTuple):
    """At one lead: two members, mean and spread of all, and what came; each [C, H, W]."""

    members: Fields
    mean: Fields
    spread: Fields
    truth: Fields


@dataclass(eq=False)
class Example:
    """One of the forecasts."""

    init: str
    channels: tuple[Channel, ...]
    latitude: Floats
    longitude: Floats
    maps: dict[str, Maps] = field(default_factory=dict)
    """By lead, as it is called."""

    def add(self, lead: str, forecast: Fields, truth: Fields) -> None:
        spread_ = forecast.std(0, ddof=1) if len(forecast) > 1 else np.zeros_like(truth)
        self.maps[lead] = Maps(forecast[:2].copy(), forecast.mean(0), spread_, truth)


def write_page(
    folder: Path, tables: Tables, lead_names: dict[int, str], example: Example | None
) -> None:
    """`index.html`, and the pictures beside it as PNG files."""
    channels = _channels(tables)
    pictures = {
        "Scores over lead": _score_curves(tables, channels, lead_names),
        "Where the truth lies among the members": _rank_bars(tables, channels, lead_names),
    }
    if tables[GENERATED]["spectra"]:
        pictures["Power around circles of latitude"] = _spectra(
            tables, channels, lead_names, "spectra", "wavenumbers"
        )
    if tables[GENERATED]["spherical_spectra"]:
        pictures["Power on the sphere"] = _spectra(
            tables, channels, lead_names, "spherical_spectra", "degrees"
        )
    if example is not None:
        pictures[f"A forecast from {example.init}"] = _maps(example)
    parts = []
    for number, (title, figure) in enumerate(pictures.items()):
        content = io.BytesIO()
        figure.savefig(content, dpi=90, bbox_inches="tight")
        (folder / f"{number}.png").write_bytes(content.getvalue())
        data = base64.b64encode(content.getvalue()).decode()
        name = html.escape(title)
        image = f"<img alt='{name}' src='data:image/png;base64,{data}'>"
        parts.append(f"<h2>{name}</h2>\n{image}")
    parts.insert(0, _table(tables, channels, lead_names))
    style = (
        "body{font:15px system-ui;margin:2em auto;max-width:75em;color:#222}img{max-width:100%}"
        "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right}"
        "th{border-bottom:1px solid #999}.best{font-weight:bold}td:first-child{text-align:left}"
    )
    page = (
        "<!doctype html><meta charset='utf-8'><title>Forecasts</title>"
        f"<style>{style}</style>\n<h1>Forecasts and what came</h1>\n" + "\n".join(parts)
    )
    (folder / "index.html").write_text(page, encoding="utf-8")


def _channels(tables: Tables) -> list[str]:
    names = list(dict.fromkeys(channel_name(row) for row in tables[GENERATED]["scores"]))
    return some(names, MAX_CHANNELS)


def _rows(tables: Tables, name: str, kind: str, channel: str, region: str = "global") -> list[Row]:
    return [
        row
        for row in tables[name][kind]
        if channel_name(row) == channel and row["region"] == region
    ]


def _score_curves(tables: Tables, channels: list[str], lead_names: dict[int, str]) -> Figure:
    """A row for each channel, a column for each score."""
    figure, axes = _panels(len(channels), len(TITLES))
    for row, channel in zip(axes, channels, strict=True):
        for axis, (score, title) in zip(row, TITLES.items(), strict=True):
            for number, name in enumerate(tables):
                points = _curve(tables, name, score, channel)
                lw = 2.5 if name == GENERATED else 1
                style = "--" if name == "climatology" else "-"  # its years have the same mean
                axis.plot(
                    *points, style, marker="o", ms=3, label=name, lw=lw, color=COLOURS[number % 8],
                    zorder=3 if name in (GENERATED, "climatology") else 2,
                )  # fmt: skip
            axis.set_ylim(*_range(tables, score, channel))
            if score == "spread_skill":
                axis.axhline(1, color="grey", lw=0.8)
            axis.set_title(f"{title}, {channel}", fontsize=9)
            _name_leads(axis, lead_names)
    handles, labels = axes[0][0].get_legend_handles_labels()
    labels = [f"{name} (may lie above)" if name == "persistence" else name for name in labels]
    figure.legend(handles, labels, loc="upper center", ncols=6, bbox_to_anchor=(0.5, 0), fontsize=9)
    return figure


def _curve(tables: Tables, name: str, score: str, channel: str) -> tuple[list[float], list[float]]:
    """Leads and the values that are defined."""
    found = _rows(tables, name, "scores", channel)
    points = [(r["lead"], r["value"]) for r in found if r["score"] == score]
    points = [point for point in points if np.isfinite(point[1])]
    return [lead for lead, _ in points], [value for _, value in points]


def _range(tables: Tables, score: str, channel: str) -> tuple[float | None, float | None]:
    """What is shown: plain persistence may leave the picture, so that others can be told apart."""
    others = [name for name in tables if name != "persistence"]
    values = [v for name in others for v in _curve(tables, name, score, channel)[1]]
    if len(others) < 2 or not values or score == "acc":
        return None, None
    return 0, 1.15 * max(values) or None


def _name_leads(axis: Axes, lead_names: dict[int, str]) -> None:
    steps = some(list(lead_names), MAX_LEADS)
    axis.set_xticks(steps, [lead_names[step] for step in steps], fontsize=7)


def _rank_bars(tables: Tables, channels: list[str], lead_names: dict[int, str]) -> Figure:
    """Flat where members and truth are alike; high at both ends where members are too alike."""
    leads = some(list(lead_names), MAX_LEADS)
    figure, axes = _panels(len(channels), len(leads))
    for row, channel in zip(axes, channels, strict=True):
        found = {r["lead"]: r["frequencies"] for r in _rows(tables, GENERATED, "ranks", channel)}
        for axis, lead in zip(row, leads, strict=True):
            heights = np.array(found[lead])
            axis.bar(range(len(heights)), heights, color=MODEL_COLOUR, width=0.9)
            axis.axhline(1 / len(heights), color="black", lw=0.8)
            axis.set_title(f"{channel}, {lead_names[lead]}", fontsize=9)
            axis.set_xlabel("members below the truth", fontsize=7)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _spectra(
    tables: Tables, channels: list[str], lead_names: dict[int, str], kind: str, waves_name: str
) -> Figure:
    leads = some(list(lead_names), MAX_LEADS)
    figure, axes = _panels(len(channels), len(leads))
    for row, channel in zip(axes, channels, strict=True):
        found = {r["lead"]: r for r in _rows(tables, GENERATED, kind, channel)}
        for axis, lead in zip(row, leads, strict=True):
            if lead not in found:
                axis.set_axis_off()
                continue
            waves = np.array(found[lead][waves_name])[1:]
            for name, style in (("truth", "k-"), ("members", "C3-"), ("mean", "C3:")):
                axis.loglog(waves, found[lead][name][1:], style, lw=1.2, label=name)
            axis.set_title(f"{channel}, {lead_names[lead]}", fontsize=9)
            axis.set_xlabel(waves_name, fontsize=7)
            axis.set_ylabel("power, squared unit", fontsize=7)
    axes[0][0].legend(fontsize=7)
    return figure


def _maps(example: Example) -> Figure:
    """A row for each lead of the first channel: truth, mean, error, spread, two members."""
    leads = some(list(example.maps), MAX_LEADS)
    channel = example.channels[0]
    height = 12.5 * len(example.latitude) / len(example.longitude) / 6 + 0.5
    figure = Figure(figsize=(15, len(leads) * height), layout="constrained")
    axes = figure.subplots(len(leads), 6, squeeze=False)
    for row, lead in zip(axes, leads, strict=True):
        maps = example.maps[lead]
        low, high = np.nanmin(maps.truth[0]), np.nanmax(maps.truth[0])
        error = maps.mean[0] - maps.truth[0]
        most = float(np.nanmax(np.abs(error)))
        plain = {"cmap": "viridis", "vmin": low, "vmax": high}
        panels: list[tuple[str, Any, dict[str, Any]]] = [
            ("truth", maps.truth[0], plain),
            ("mean of members", maps.mean[0], plain),
            ("mean - truth", error, {"cmap": "RdBu_r", "vmin": -most, "vmax": most}),
            ("spread", maps.spread[0], {"cmap": "magma", "vmin": 0}),
            *((f"member {i}", member[0], plain) for i, member in enumerate(maps.members)),
        ]
        for axis in row:
            axis.set_axis_off()
        for axis, (name, values, colours) in zip(row, panels, strict=False):
            image = axis.imshow(values, aspect="equal", interpolation="nearest", **colours)
            axis.set_title(f"{name}, {lead}", fontsize=9)
            if name in ("truth", "mean - truth", "spread"):
                bar = figure.colorbar(
                    image, ax=axis, orientation="horizontal", shrink=0.9, pad=0.02
                )
                bar.ax.tick_params(labelsize=7)
    figure.suptitle(f"{channel.name} ({channel.units}), from {example.init}", fontsize=10)
    return figure


def _panels(num_rows: int, num_columns: int) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    figure = Figure(figsize=(3.6 * num_columns, 2.4 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    for axis in axes.ravel():
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes.tolist()


def _table(tables: Tables, channels: list[str], lead_names: dict[int, str]) -> str:
    """RMSE and CRPS of each forecast at some leads; the best of each is bold."""
    leads = some(list(lead_names), MAX_LEADS)
    parts = []
    for channel in channels:
        for score in ("rmse", "crps"):
            found = {
                name: {
                    r["lead"]: r["value"]
                    for r in _rows(tables, name, "scores", channel)
                    if r["score"] == score
                }
                for name in tables
            }
            best = {lead: min(values[lead] for values in found.values()) for lead in leads}
            head = "".join(f"<th>{html.escape(lead_names[lead])}" for lead in leads)
            lines = [f"<tr><th>{TITLES[score]}, {html.escape(channel)}{head}"]
            for name, values in found.items():
                cells = "".join(
                    f"<td{' class=best' if values[lead] == best[lead] else ''}>{values[lead]:.4g}"
                    for lead in leads
                )
                lines.append(f"<tr><td>{html.escape(name)}{cells}")
            parts.append(f"<table>{''.join(lines)}</table><br>")
    return "\n".join(parts)
