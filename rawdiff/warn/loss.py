"""Does one noise level take all of the loss?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rawdiff.flow.settings import FlowSettings
from rawdiff.warn.concern import Concern

PREFIX = "loss/t_"
MOST = 0.75  # of the loss
ENOUGH_SAMPLES = 2000
EARLY = 0.1  # of the run, in which the loss is still that of first weights


def bins(line: Mapping[str, float]) -> dict[str, float]:
    """Mean errors of a line of the log by their times, such as "0.2-0.4"."""
    found = {key.removeprefix(PREFIX): value for key, value in line.items() if PREFIX in key}
    return dict(sorted(found.items()))


def share_of_times(flow: FlowSettings, name: str) -> float:
    """The share of all times that lie in a bin such as "0.2-0.4"."""
    low, high = map(float, name.split("-"))
    if flow.time == "uniform":
        return high - low
    return _below(flow, high) - _below(flow, low)


def _below(flow: FlowSettings, t: float) -> float:
    """P(sigmoid(P_mean + P_std n) < t)."""
    if t <= 0 or t >= 1:
        return float(t >= 1)
    n = (math.log(t / (1 - t)) - flow.P_mean) / flow.P_std
    return 0.5 * (1 + math.erf(n / math.sqrt(2)))


def loss_shares(lines: Sequence[Mapping[str, float]], flow: FlowSettings) -> dict[str, float]:
    """How the loss of the newest lines is shared by the bins of time; sums to 1.

    As many lines as hold ENOUGH_SAMPLES; empty if all of them do not.
    """
    totals: dict[str, float] = {}
    num_samples = 0.0
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        window = line["samples"] - (lines[number - 1]["samples"] if number else 0)
        for name, error in bins(line).items():
            part = window * share_of_times(flow, name) * error
            totals[name] = totals.get(name, 0.0) + part
        num_samples += window
        if num_samples >= ENOUGH_SAMPLES:
            whole = sum(totals.values())
            return {name: totals[name] / whole for name in sorted(totals)} if whole > 0 else {}
    return {}


def one_bin(
    lines: Sequence[Mapping[str, float]], flow: FlowSettings, num_steps: int
) -> Concern | None:
    """One bin of time that makes up most of the loss; None in the first tenth of the run."""
    if not lines or lines[-1]["step"] < EARLY * num_steps:
        return None
    shares = loss_shares(lines, flow)
    name = max(shares, key=shares.__getitem__, default=None)
    if name is None or shares[name] < MOST:
        return None
    times = share_of_times(flow, name)
    found = (
        f"{shares[name]:.0%} of the loss come from times t in {name}, where {times:.0%} of the "
        "samples are: the other noise levels are hardly learned."
    )
    if times >= MOST:
        cure = "Spread the times: a larger `flow.P_std`, or `flow.time: uniform`."
    elif float(name.split("-")[0]) >= 0.5:  # next to data, where v divides by 1 - t
        cure = "Try a larger `flow.t_eps`, a lower `flow.P_mean`, or `flow.prediction: x` with " + (
            "`flow.loss: x`." if flow.loss != "x" else "another `flow.loss`."
        )
    else:
        cure = "Try `flow.prediction: x` with `flow.loss: v`, or a higher `flow.P_mean`."
    return Concern("one noise level", found, cure)
