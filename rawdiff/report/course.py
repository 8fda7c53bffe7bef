"""How training went: the curves of a run's log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rawdiff.report.charts import Chart, Series, curve
from rawdiff.report.record import Record
from rawdiff.warn.loss import PREFIX, bins, loss_shares, share_of_times


class Share(NamedTuple):
    """Of a bin of times: its part of the loss, and of the samples."""

    name: str
    loss: float
    times: float
    colour: str


def charts(record: Record) -> list[Chart]:
    """All that the log has enough lines for."""
    return list(_charts(record))


def _charts(record: Record) -> Iterator[Chart]:
    lines = record.lines
    if loss := curve(lines, "loss", "loss"):
        space = record.recipe.flow.loss
        note = f"Mean squared error of {space}, over the window of each line of the log."
        yield Chart("Loss", note, [loss])
    if levels := _levels(record):
        note = "t = 0 is noise, t = 1 is data: which noise levels still improve?"
        yield Chart("Loss by noise level", note, levels)
    if norm := curve(lines, "grad_norm", "gradient norm", "c2"):
        yield Chart("Gradient norm", _guarded(record), [norm])
    if speed := curve(lines, "samples_per_second", "samples a second", "c3"):
        yield Chart("Speed", _waiting(record), [speed], from_zero=True)
    if len(record.seams) > 1:
        drawn = Series("samples", [(one.step, one.samples) for one in record.seams], "c1")
        real = Series("real data", [(one.step, one.real) for one in record.seams], "c2")
        note = "Jumps across borders of patches over those inside them; real data are the measure."
        yield Chart("Patch seams", note, [drawn, real])


def _levels(record: Record) -> list[Series]:
    names = sorted({name for line in record.lines for name in bins(line)})
    found = [
        curve(record.lines, PREFIX + name, f"t {name.replace('-', ' – ')}", f"n{i + 1}")
        for i, name in enumerate(names)
    ]
    return [series for series in found if series is not None]


def shares(record: Record) -> list[Share]:
    """Of the loss of the newest lines, by bin of times; empty where there are too few."""
    flow = record.recipe.flow
    found = loss_shares(record.lines, flow)
    return [
        Share(name.replace("-", " – "), part, share_of_times(flow, name), f"n{i + 1}")
        for i, (name, part) in enumerate(found.items())
    ]


def _guarded(record: Record) -> str:
    skipped = sum(line.get("skipped", 0.0) for line in record.lines)
    clip = record.recipe.train.clip_norm
    text = "Before clipping" + ("." if clip is None else f" to {clip:g}.")
    text += f" Steps skipped: {skipped:,.0f}."
    if record.num_rollbacks:
        text += f" Times that the run went back: {record.num_rollbacks}."
    return text


def _waiting(record: Record) -> str:
    waits = [line["data_share"] for line in record.lines if "data_share" in line]
    if not waits:
        return "Samples a second."
    return f"Samples a second; {sum(waits) / len(waits):.0%} of the time went to waiting for data."
