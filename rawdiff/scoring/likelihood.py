"""How likely a run holds real held-out samples: nats and bits, kept batch by batch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from rawdiff.conditions import conditions_of
from rawdiff.density import bits_per_value, log_density, num_values_of
from rawdiff.errors import UserError
from rawdiff.evaluate.calibration import mean_and_error
from rawdiff.evaluate.store import digest
from rawdiff.files import write_text
from rawdiff.run import Progress, Say, load_with
from rawdiff.scoring.scores import Scoring
from rawdiff.shared_work import shared_work


@dataclass(frozen=True)
class Likelihood:
    """Of n samples, in their order: log p in nats in data units, and bits per dimension.

    `levels`: whether the data are whole numbers, so that bits are of their levels (a bound).
    Means stand with their standard errors.
    """

    nats: list[float]
    bits_per_dim: list[float]
    levels: bool
    origin: dict[str, Any]

    @property
    def means(self) -> dict[str, dict[str, float]]:
        means = {}
        for name in ("nats", "bits_per_dim"):
            values = torch.tensor(getattr(self, name), dtype=torch.float64)
            mean, error = mean_and_error(values)
            means[name] = {"mean": mean, "standard_error": error}
        return means


def likelihood_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    step: int | None = None,
    num_probes: int = 1,
    cut: float | None = None,
    say: Say = print,
    progress: Progress | None = None,
) -> Likelihood:
    """Log-likelihoods of held-out samples, `evaluate.num_samples` at most; writes JSON.

    Given their own labels, scalars and context. `sample.num_steps` and its seed act, guidance does
    not; `cut` as in `log_density`. Several processes share the batches. What was killed goes on
    when it is called again.
    """
    if num_probes < 1:
        raise UserError(f"--num-probes is 1 or more, found {num_probes}.")
    if cut is not None and not 0 < cut < 1:
        raise UserError(f"--cut is a 1 - t between 0 and 1, found {cut}.")
    with shared_work(path, overrides, say) as processes:
        say = processes.only_first(say)
        folder, model = load_with(path, overrides, step, say)
        shown = progress if processes.is_first else None
        scoring = Scoring(folder, model, say, shown, processes)
        result = _of_held_out(scoring, num_probes, cut)
        content = {"means": result.means} | asdict(result)
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        processes.from_first(lambda: write_text(folder.likelihood, text))
    return result


def _of_held_out(scoring: Scoring, num_probes: int, cut: float | None) -> Likelihood:
    """What is not there yet is computed, and kept, by the processes together."""
    model, held_out = scoring.model, scoring.held_out()
    settings = model.recipe.sample
    conditions = conditions_of(held_out, model.sampler.info)
    cut = model.sampler.flow.t_eps if cut is None else cut
    how = {"num_probes": num_probes, "cut": cut}
    facts = {"kept": "log-likelihoods", **how, **scoring.facts.drawn}
    facts["digest of samples"] = digest({"x": held_out.x, **conditions.tensors()})
    store = scoring.store(facts, len(held_out), settings.batch_size)

    def make(missing: Sequence[range]) -> Iterator[dict[str, Tensor]]:
        for part in missing:
            rows = slice(part.start, part.stop)
            index = torch.arange(part.start, part.stop)
            x = held_out.x[rows]
            nats = log_density(model.sampler, x, index, conditions[rows], settings, num_probes, cut)
            if not bool(nats.isfinite().all()):
                raise UserError(
                    "A log-likelihood is not finite: the model has diverged, or the sample lies "
                    "where it knows nothing. Look at its loss; a larger --cut helps."
                )
            yield {"nats": nats, "num_values": num_values_of(x)}

    scoring.fill(store, make, "log-likelihoods")
    found = scoring.processes.from_first(store.read)
    return Likelihood(
        nats=found["nats"].tolist(),
        bits_per_dim=bits_per_value(found["nats"], found["num_values"]).tolist(),
        levels=not held_out.x.is_floating_point(),
        origin=model.origin | {"sample": facts["sample"], **how},
    )


def table(found: Likelihood) -> Table:
    """Means and their standard errors, for the terminal."""
    result = Table(title=f"{len(found.nats):,} held-out samples")
    for column in ("log-likelihood", "mean", "standard error"):
        result.add_column(column, justify="left" if column == "log-likelihood" else "right")
    of = "of whole numbers" if found.levels else "of a density in data units"
    names = {"nats": "nats, in data units", "bits_per_dim": f"bits per dimension, {of}"}
    for name, row in found.means.items():
        result.add_row(names[name], f"{row['mean']:.5g}", f"{row['standard_error']:.2g}")
    return result
