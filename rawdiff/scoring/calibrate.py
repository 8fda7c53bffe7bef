"""Whether the spread of samples that agree with an observation can be trusted.

Of held-out samples something is observed; the rest is drawn, and compared with what was hidden.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from rawdiff import philox
from rawdiff.conditions import Conditions, conditions_of
from rawdiff.errors import UserError
from rawdiff.evaluate.calibration import crps, evenness, interval, mean_and_error, ranks
from rawdiff.evaluate.store import digest
from rawdiff.files import write_text
from rawdiff.run import Progress, Say, load_with
from rawdiff.sample_settings import SampleSettings
from rawdiff.sampling import Sampler, draw_all
from rawdiff.scoring.scores import Scoring
from rawdiff.shared_work import shared_work
from rawdiff.steer.evidence import noise_spread
from rawdiff.steer.settings import ObserveSettings

SHARES = (0.5, 0.9)  # of intervals
NUM_MEMBERS, NUM_TRUTHS = 19, 64  # 19: intervals between members hold 50 and 90 % exactly
HIDDEN, NOISE, TIES, PLACE = range(4)  # kinds of randomness
NUM_ERRORS, TOLERANCE, UNLIKELY = 3, 0.02, 0.01
"""A coverage is off by so many standard errors and so much at least; a p-value is so low."""


@dataclass(frozen=True)
class Calibration:
    """Of `num_truths` held-out samples with `num_members` draws each.

    `coverage` by the share that intervals should hold: what they do, with a standard error over
    truths. `ranks` of one hidden value of each truth, and of the mean of them all: a histogram and
    the p-value that it is even. `crps` is in spreads of the data's channels.
    """

    num_truths: int
    num_members: int
    coverage: dict[str, dict[str, float]]
    ranks: dict[str, dict[str, Any]]
    crps: dict[str, float]
    verdict: str
    calibrated: bool


def compare(
    sampler: Sampler,
    x: Tensor,
    first: int,
    conditions: Conditions,
    settings: SampleSettings,
    num_members: int,
) -> dict[str, Tensor]:
    """What each truth x [B, C, …], of number `first` on, is among draws that saw a part of it.

    `held` [B, 2]: which share of the hidden values lies in intervals of SHARES; `place` and `mean`
    [B]: ranks of one hidden value and of their mean; `crps` [B], their mean. Of a mask a random
    half of the grid is seen; what other operators give is seen as it is, and all values compared.
    Where data are whole numbers (an integer dtype), so are the draws.
    """
    seed, index = settings.seed, torch.arange(first, first + len(x))
    whole, x = not x.is_floating_point(), x.float()

    def uniform(kind: int, num: int) -> Tensor:
        return philox.uniform(seed, philox.Stream.CALIBRATION + kind, index, num)

    observe = settings.observe or ObserveSettings()
    there = ~x.isnan()
    y = observe.operator.measure(sampler.info, sampler.patcher.grid)(x)
    if not observe.method.exact:
        moments = sampler.patcher.statistics.x
        spread = noise_spread(observe.noise_std, moments.std.cpu(), y.shape[1:], observe.operator)
        stream = philox.Stream.CALIBRATION + NOISE
        y = y + spread * philox.normal(seed, stream, index, y[0].numel()).view(y.shape)
    if observe.operator.keeps_values:
        hidden = _half(uniform(HIDDEN, x[0, 0].numel())).view(len(x), 1, *x.shape[2:])
        y = torch.where(hidden, torch.nan, y)
        there = there & hidden
    each = {k: v.repeat_interleave(num_members, 0) for k, v in conditions.tensors().items()}
    settings = settings.like_real().model_copy(update={"observe": observe})
    num = len(x) * num_members
    settings, asked = sampler.observing(
        settings, Conditions(**each), num, y.repeat_interleave(num_members, 0)
    )
    drawn = draw_all(sampler, num, asked, settings, first_index=first * num_members)
    std = sampler.patcher.statistics.x.std.cpu().view(1, -1, *(1,) * (x.dim() - 2))
    members = torch.cat(list(drawn))
    members = ((members.round() if whole else members) / std).view(len(x), num_members, -1)
    truth, there = (x / std).flatten(1), there.flatten(1)
    if not bool(there.any(1).all()):
        raise UserError("Nothing of a held-out sample is hidden that has a value: all is missing.")
    if not bool((members.isfinite() | ~there[:, None]).all()):
        raise UserError("Samples hold values that are not finite: the model has diverged.")
    found = ranks(members, truth, uniform(TIES, truth.shape[1]))
    held = []
    for share in SHARES:
        k, _ = interval(share, num_members)
        inside = (found >= k) & (found <= num_members - k)
        held.append((inside & there).sum(1) / there.sum(1))
    place = torch.where(there, uniform(PLACE, truth.shape[1]), -1.0).argmax(1)
    means = (
        torch.where(there, truth, 0.0).sum(1),
        torch.where(there[:, None], members, 0.0).sum(2),
    )
    mean = ranks(means[1][..., None], means[0][:, None], uniform(TIES, 1))[:, 0]
    score = torch.where(there, crps(members, truth), 0.0).sum(1) / there.sum(1)
    return {
        "held": torch.stack(held, 1).double(),
        "place": found.gather(1, place[:, None])[:, 0],
        "mean": mean,
        "crps": score.double(),
    }


def _half(u: Tensor) -> Tensor:
    """True at a random half of the places of each row of u [B, n] in (0, 1), one at least."""
    return u.argsort(1).argsort(1) < max(u.shape[1] // 2, 1)


def judge(found: dict[str, Tensor], num_members: int) -> Calibration:
    """What `compare` found of all truths, and a verdict in words."""
    num = len(found["place"])
    coverage, words = {}, []
    for i, share in enumerate(SHARES):
        _, expected = interval(share, num_members)
        held, error = mean_and_error(found["held"][:, i])
        coverage[f"{share:.0%}"] = {"expected": expected, "held": held, "standard_error": error}
        off = held - expected
        if abs(off) > max(NUM_ERRORS * error, TOLERANCE):
            words.append("too narrow" if off < 0 else "too wide")
    of_ranks: dict[str, dict[str, Any]] = {}
    for name in ("place", "mean"):
        histogram, p_value = evenness(found[name], num_members)
        of_ranks[name] = {"histogram": histogram, "p_value": p_value}
    uneven = min(row["p_value"] for row in of_ranks.values()) * len(of_ranks) < UNLIKELY
    score, error = mean_and_error(found["crps"])
    return Calibration(
        num_truths=num,
        num_members=num_members,
        coverage=coverage,
        ranks=of_ranks,
        crps={"mean": score, "standard_error": error},
        verdict=_verdict(words, uneven, num),
        calibrated=not words and not uneven,
    )


def _verdict(words: Sequence[str], uneven: bool, num_truths: int) -> str:
    if "too narrow" in words and "too wide" in words:
        return "Not calibrated: some intervals are too narrow, others too wide."
    if words:
        why = "less" if words[0] == "too narrow" else "more"
        advice = "Do not trust the spread. " if why == "less" else ""
        return (
            f"Not calibrated: the spread is {words[0]}; intervals hold the truth {why} often than "
            f"they say. {advice}More steps, another method or `sample.noise_scale` may mend it."
        )
    if uneven:
        return (
            "Not calibrated: truths do not fall evenly among the draws, although intervals hold "
            "as often as they say; draws are shifted, or of another shape."
        )
    return f"Calibrated, as far as {num_truths} truths can tell."


def calibrate_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    step: int | None = None,
    num_members: int = NUM_MEMBERS,
    num_truths: int = NUM_TRUTHS,
    say: Say = print,
    progress: Progress | None = None,
) -> Calibration:
    """Of held-out samples, as `sample.observe` says (default: a mask); writes `calibration.json`.

    Given their own labels, scalars and context. Several processes share the batches. What was
    killed goes on when it is called again.
    """
    if num_members < 3:
        raise UserError(f"--members is 3 or more, better {NUM_MEMBERS}; found {num_members}.")
    if num_truths < 10:
        raise UserError(f"--truths is 10 or more, better {NUM_TRUTHS}; found {num_truths}.")
    overrides = [*overrides, f"evaluate.num_samples={num_truths}"]
    with shared_work(path, overrides, say) as processes:
        say = processes.only_first(say)
        folder, model = load_with(path, overrides, step, say)
        shown = progress if processes.is_first else None
        scoring = Scoring(folder, model, say, shown, processes)
        found, how = _of_held_out(scoring, num_members)
        content = asdict(found) | {"origin": model.origin | how}
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        processes.from_first(lambda: write_text(folder.calibration, text))
    return found


def _of_held_out(scoring: Scoring, num_members: int) -> tuple[Calibration, dict[str, Any]]:
    """And the settings. What is not there yet is drawn, and kept, by the processes together."""
    model, settings = scoring.model, scoring.model.recipe.sample
    observe = settings.observe or ObserveSettings()
    if observe.file is not None:
        raise UserError(
            f"`sample.observe.file` ({observe.file}) is left out here: what is observed is made of "
            "held-out samples. Only `operator`, `method` and `noise_std` count."
        )
    held_out = scoring.held_out()
    if len(held_out) < 10:
        raise UserError(f"{len(held_out)} held-out samples tell nothing; 10 at least are needed.")
    conditions = conditions_of(held_out, model.sampler.info)
    facts = {"kept": "ranks of truths", "num_members": num_members, **scoring.facts.drawn}
    facts["observe"] = observe.model_dump(mode="json")
    facts["digest of truths"] = digest({"x": held_out.x, **conditions.tensors()})
    store = scoring.store(facts, len(held_out), max(settings.batch_size // num_members, 1))

    def make(missing: Sequence[range]) -> Iterator[dict[str, Tensor]]:
        for part in missing:
            rows, x = slice(part.start, part.stop), held_out.x[part.start : part.stop]
            yield compare(model.sampler, x, part.start, conditions[rows], settings, num_members)

    scoring.fill(store, make, "held-out samples")
    found = judge(scoring.processes.from_first(store.read), num_members)
    return found, {name: facts[name] for name in ("sample", "observe")}


def table(found: Calibration) -> Table:
    """For the terminal; the verdict stands below."""
    title = f"{found.num_truths} held-out samples, {found.num_members} draws of each"
    result = Table("what", "found", "expected", title=title, caption=found.verdict)
    for row in found.coverage.values():
        held = f"{row['held']:.3f} ± {row['standard_error']:.3f}"
        which = f"share in intervals of {row['expected']:.0%}"  # as few draws have them
        result.add_row(which, held, f"{row['expected']:.3f}")
    names = {"place": "ranks of a hidden value", "mean": "ranks of their mean"}
    for name, of_name in found.ranks.items():
        counts = " ".join(map(str, of_name["histogram"]))
        result.add_row(names[name], f"{counts}  (p = {of_name['p_value']:.2g})", "even")
    score = f"{found.crps['mean']:.4g} ± {found.crps['standard_error']:.2g}"
    result.add_row("CRPS, in spreads of the data", score, "low")
    return result
