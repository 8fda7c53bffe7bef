"""Scores of a trained model that go on where they were stopped, however many samples they need."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from rawdiff.adapter import Adapter
from rawdiff.assemble import Data, describe_data, open_data, require_same_data
from rawdiff.conditions import Conditions, conditions_of, draw_conditions, real_batch, spread
from rawdiff.data.dataset import Batch, DataInfo
from rawdiff.data.loading import Subset
from rawdiff.data.statistics import Statistics, measure
from rawdiff.errors import UserError
from rawdiff.evaluate.evaluator import (
    Basis,
    Evaluator,
    FeatureEvaluator,
    OwnReference,
    Scorer,
    SeriesEvaluator,
)
from rawdiff.evaluate.report import (
    GENERATED,
    ORACLE,
    REFERENCE,
    Report,
    evaluate,
    join,
    report_of,
    require_rows,
    require_sound,
)
from rawdiff.evaluate.resample import at_size, resample
from rawdiff.evaluate.store import Make, Store, digest
from rawdiff.forecast import draw_with, open_series
from rawdiff.parallel.processes import ALONE, Processes
from rawdiff.recipe import Recipe
from rawdiff.run import Progress, Say, TrainedModel
from rawdiff.saved.folder import RunFolder
from rawdiff.scoring.facts import Facts, code_digest


@dataclass(frozen=True)
class Scoring:
    """Scores a model of a run, beside real data of its recipe.

    Drawn samples and features are kept in folders of their own for each step, weights, settings
    and data that they depend on: only the very same ones are taken up again.
    """

    folder: RunFolder
    model: TrainedModel
    say: Say
    progress: Progress | None = None
    processes: Processes = ALONE
    """Those that share the batches of `fill`; the first one alone makes scores of them."""

    def evaluate(
        self, evaluators: Mapping[str, Scorer], publish: Callable[[Report], None]
    ) -> Report:
        """Scores of all; once they are published, samples that were kept meanwhile are deleted.

        Features stay, so that the same ones are never computed twice. Which evaluators have no
        score is said; UserError if that is known of all before anything is drawn.
        """
        able = self._able(evaluators)
        in_memory = {k: e for k, e in able.items() if isinstance(e, Evaluator)}
        by_features = {k: e for k, e in able.items() if isinstance(e, FeatureEvaluator)}
        reports, twins = [], None
        if in_memory:
            held_out = self.held_out()
            twins = self._draw_twins(held_out)
            score = partial(self._score_in_memory, twins, held_out.x, in_memory)
            reports += [self.processes.from_first(score)]
        reports += [self._score_features(name, e) for name, e in by_features.items()]
        reports += [
            self._score_series(name, evaluator)
            for name, evaluator in able.items()
            if isinstance(evaluator, SeriesEvaluator)
        ]
        report = join(reports)
        for name in able.keys() - {score.partition("/")[0] for score in report.scores}:
            self.say(f"`{name}` found nothing to score in these samples.")
        self.processes.from_first(partial(publish, report))
        if twins is not None:
            self.processes.from_first(twins.remove)
        return report

    def _able(self, evaluators: Mapping[str, Scorer]) -> dict[str, Scorer]:
        """Those that have a score of such samples, as far as one can tell before they are there."""
        found = {name: self._obstacle(evaluator) for name, evaluator in evaluators.items()}
        lines = [f"`{name}` has no score: {why}" for name, why in found.items() if why]
        if lines and len(lines) == len(found):
            raise UserError("\n".join(lines))
        for line in lines:
            self.say(line)
        return {name: evaluators[name] for name, why in found.items() if not why}

    def _obstacle(self, evaluator: Scorer) -> str | None:
        if isinstance(evaluator, SeriesEvaluator) and self._recipe.holdout_data is None:
            return (
                "forecasts are compared with what came, in a time that training has not seen. Hold "
                "one out: `holdout: {data: {time: [FIRST, LAST]}}`."
            )
        return evaluator.obstacle(self._basis)

    def held_out(self) -> Batch:
        if self._data.holdout is None:
            raise UserError(
                "A score says nothing without that of real held-out data beside it, and this "
                "recipe holds none out. Give some: `holdout.data.path=…` at the end of this "
                "command, or `holdout: {fraction: 0.1}` in the recipe before training."
            )
        num_samples = self._recipe.evaluate.num_samples
        return real_batch(self._data.holdout, spread(num_samples, len(self._data.holdout)))

    def _draw_twins(self, held_out: Batch) -> Store:
        """Samples for the labels, scalars and context of held-out ones."""
        conditions = conditions_of(held_out, self.model.sampler.info)
        facts = {"kept": "samples", "for": "held-out data", **self.facts.drawn}
        facts["digest of conditions"] = digest(conditions.tensors())
        store = self.store(facts, len(held_out), self._recipe.sample.batch_size)

        def make(missing: Sequence[range]) -> Iterator[dict[str, Tensor]]:
            for part in missing:
                yield {"x": self._draw(part, conditions[part.start : part.stop])}

        self.fill(store, make, "generated samples")
        return store

    def _score_in_memory(
        self, twins: Store, held_out: Tensor, evaluators: Mapping[str, Evaluator]
    ) -> Report:
        generated = torch.where(held_out.isnan(), torch.nan, twins.read()["x"])
        train = self._data.train
        reference = real_batch(train, spread(self._recipe.evaluate.num_reference, len(train)))
        reference = replace(reference, x=resample(reference.x.float(), self._info))
        moments = measure(reference.split(64)).x
        return evaluate(
            resample(generated, self._info),
            resample(held_out.float(), self._info),
            reference.x,
            Basis(self._info, self._adapter, moments.mean, moments.std),
            evaluators,
        )

    def _score_features(self, name: str, evaluator: FeatureEvaluator) -> Report:
        basis = self._basis
        own = evaluator.own_reference(basis)
        stores = {}
        data = self._reference_data(own)
        if data is not None:
            num = evaluator.num_reference
            stores[REFERENCE] = self._real_features(name, evaluator, basis, data, num)
        stores[GENERATED] = self._drawn_features(name, evaluator, basis)
        if (held_out := self._held_out_beside(own)) is not None:
            num = evaluator.num_samples
            stores[ORACLE] = self._real_features(name, evaluator, basis, held_out, num)
        counts = {column: store.num_samples for column, store in stores.items()}

        def score() -> Report:
            reference = dict(own.tensors) if own else {}
            if REFERENCE in stores:
                reference |= stores[REFERENCE].read()
            columns = {c: store.read() for c, store in stores.items() if c != REFERENCE}
            scores = {c: evaluator.score(found, reference, basis) for c, found in columns.items()}
            return report_of(name, evaluator, scores, counts, own.name if own else "")

        return self.processes.from_first(score)

    def _score_series(self, name: str, evaluator: SeriesEvaluator) -> Report:
        assert self._data.holdout is not None
        train, held_out = (
            open_series(self.folder, part.dataset)
            for part in (self._data.train, self._data.holdout)
        )
        facts = {
            "kept": "forecasts",
            **self.facts.drawn,
            "held out": self.facts.data(self._data.holdout),
            "train": self.facts.data(self._data.train),
            "evaluator": {"name": name, **evaluator.model_dump(mode="json")},
            "code of the evaluator": code_digest(type(evaluator)),
        }

        def kept(num: int, make: Callable[[int], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
            store = self.store(facts, num, 1)

            def one_by_one(missing: Sequence[range]) -> Iterator[dict[str, Tensor]]:
                for part in missing:
                    yield {key: values[None] for key, values in make(part.start).items()}

            self.fill(store, one_by_one, f"forecasts for `{name}`")
            return store.read()

        folder = self.folder.path / "scores" / name
        draw = draw_with(self.model)
        with TemporaryDirectory() as of_others:  # the first process's is the one that is kept
            if self.processes.is_first:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            out = folder if self.processes.is_first else Path(of_others)
            columns, num_forecasts = evaluator.score(draw, held_out, train, kept, out, self.say)
        self.say(f"`{name}`: tables and pictures are in {folder}.")
        return report_of(name, evaluator, columns, {GENERATED: num_forecasts})

    def _reference_data(self, own: OwnReference | None) -> Subset | None:
        """Real samples to take features of, if the reference is not all in tensors."""
        if own is None:
            return self._data.train
        return None if own.data is None else Subset(own.data, range(len(own.data)))

    def _held_out_beside(self, own: OwnReference | None) -> Subset | None:
        """Held-out data; a score against a reference of its own does without, and says so."""
        try:
            held_out = self._data.holdout
        except UserError as error:
            if own is None:
                raise
            self.say(f"There is no real held-out data beside the scores: {error}")
            return None
        if held_out is None:
            self.say("This recipe holds no real data out, so that no oracle stands beside.")
        return held_out

    def _drawn_features(self, name: str, evaluator: FeatureEvaluator, basis: Basis) -> Store:
        """Features of generated samples, drawn for labels in turn."""
        settings, info, num = self._recipe.sample, self.model.sampler.info, evaluator.num_samples
        num_labels = len(settings.labels or info.class_names)
        if num_labels and num % num_labels:
            self.say(
                f"{num:,} samples of {num_labels:,} classes in turn: the first "
                f"{num % num_labels:,} classes get one more than the others."
            )
        facts = {"kept": "features", "of": "generated samples", **self.facts.drawn}
        if info.are_told:
            facts["conditions of"] = self.facts.data(self._data.real)
        store = self.store(facts | self.facts.evaluator(name, evaluator), num, settings.batch_size)

        def make(missing: Sequence[range]) -> Iterator[dict[str, Tensor]]:
            for part in missing:
                conditions = draw_conditions(
                    info,
                    num,
                    settings.labels,
                    lambda: self._data.real,
                    slice(part.start, part.stop),
                )
                x = self._draw(part, conditions)
                yield self._features(evaluator, x, basis, conditions.place)

        self.fill(store, make, f"generated samples for `{name}`")
        return store

    def _real_features(
        self, name: str, evaluator: FeatureEvaluator, basis: Basis, data: Subset, num: int | None
    ) -> Store:
        """Features of `num` real samples, spread evenly over all there are."""
        indices = [data.indices[i] for i in spread(num or len(data), len(data))]
        facts = {"kept": "features", "of": self.facts.data(Subset(data.dataset, indices))}
        store = self.store(
            facts | self.facts.evaluator(name, evaluator), len(indices), evaluator.batch_size
        )

        def make(missing: Sequence[range]) -> Iterator[dict[str, Tensor]]:
            rest = Subset(data.dataset, [indices[i] for part in missing for i in part])
            for batch in rest.batches(evaluator.batch_size, self._recipe.train.num_workers):
                yield self._features(evaluator, batch.x, basis, batch.place)

        self.fill(store, make, f"real samples for `{name}`")
        return store

    def _draw(self, part: range, conditions: Conditions) -> Tensor:
        """Samples of these numbers [n, C, …]. UserError if the model has diverged."""
        x = self.model.sampler.draw(torch.tensor(part), conditions, self._recipe.sample.like_real())
        there, ever = conditions.there, self._statistics.ever_present
        require_sound(x, ever if there is None else ever & there)
        return x

    def _features(
        self, evaluator: FeatureEvaluator, x: Tensor, basis: Basis, place: Tensor | None
    ) -> dict[str, Tensor]:
        x = x.to(self.model.sampler.device).float()
        with torch.no_grad():
            own = {} if place is None else {"place": place}
            found = evaluator.features(resample(x, self._info), basis, **own)
        require_rows(evaluator, found, len(x))
        return found

    def fill(self, store: Store, make: Make, what: str) -> None:
        """Have what is missing made by all processes; one of them says how much is there."""
        if num_there := store.num_there():
            self.say(f"{num_there:,} of {store.num_samples:,} {what} are there already.")
        store.fill(make, self.progress, self.processes)

    def store(self, facts: dict[str, Any], num_samples: int, batch_size: int) -> Store:
        return Store(self.folder.scoring, facts, num_samples, batch_size)

    @property
    def _recipe(self) -> Recipe:
        return self.model.recipe

    @cached_property
    def _data(self) -> Data:
        """UserError where the data are not there, or are not those of the training."""
        try:
            data = open_data(self._recipe)
        except UserError as error:
            if self.folder.num_train_samples() is not None:
                raise
            raise UserError(
                f"{self.folder.path} is an imported model, which brings no data: {error}\nAdd "
                "`data.path=TRAIN holdout.data.path=HELD_OUT` to this command, or name an "
                "evaluator that has a reference of its own, such as `--metric fid "
                "evaluate.evaluators.fid.reference=FILE`."
            ) from error
        require_same_data(self.folder.data_description(), describe_data(data), self.folder.path)
        return data

    @cached_property
    def facts(self) -> Facts:
        return Facts(self.folder, self.model, self._info)

    @cached_property
    def _statistics(self) -> Statistics:
        return self.folder.statistics()

    @cached_property
    def _info(self) -> DataInfo:
        """What samples are when they are scored."""
        return at_size(self.model.sampler.info, self._recipe.evaluate.size)

    @property
    def _basis(self) -> Basis:
        moments = self._statistics.x
        return Basis(self._info, self._adapter, moments.mean, moments.std)

    @property
    def _adapter(self) -> Adapter | None:
        return self._recipe.adapter if self._info is self.model.sampler.info else None
