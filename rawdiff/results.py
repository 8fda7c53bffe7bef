"""What a run yields: samples in the field's own files, and scores beside those of real data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rawdiff.draw.drawing import Drawing, all_facts, how_drawn
from rawdiff.draw.sample_set import FILM, PICTURE
from rawdiff.evaluate import report as score_report
from rawdiff.evaluate.choose import choose_evaluators
from rawdiff.evaluate.evaluator import Scorer
from rawdiff.parallel.processes import ALONE, Processes
from rawdiff.run import Progress, Say, TrainedModel, load_with
from rawdiff.saved.folder import RunFolder
from rawdiff.scoring.scores import Scoring
from rawdiff.shared_work import shared_work


def sample_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    step: int | None = None,
    film: bool = False,
    say: Say = print,
    progress: Progress | None = None,
) -> Path:
    """Draw `sample.num_samples` samples, write the field's own files and a picture.

    Returns the folder with them: `out`, or `samples` in the run. Several processes share the
    batches. What an earlier call with the same settings left there goes on; what one with others
    wrote is replaced. `film` adds `film.gif` of the way to the first samples. UserError if the
    folder holds anything else. Raises StoppedError on SIGTERM and SIGUSR1: the same call goes on.
    """
    with shared_work(path, overrides, say) as processes:
        say = processes.only_first(say)
        folder, model = load_with(path, overrides, step, say)
        facts = processes.from_first(lambda: all_facts(folder, model))
        drawing = Drawing.of(model, folder.samples if out is None else out, facts)
        samples = drawing.samples
        with samples.held(processes.is_first):
            missing = processes.from_first(lambda: samples.begin(say, drawing.rehearse))
            if missing is not None:
                own = missing[processes.rank :: processes.count]
                drawing.draw(own, progress if processes.is_first else None)
                processes.wait()
                processes.from_first(drawing.finish)
            if film:
                processes.from_first(drawing.draw_film)
        pictures = f", {PICTURE} and {FILM}" if film else f" and {PICTURE}"
        say(f"{samples.num_samples} samples{pictures} are in {samples.path}.")
    return samples.path


def evaluate_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    step: int | None = None,
    metrics: Sequence[str] | None = None,
    out: Path | None = None,
    say: Say = print,
    progress: Progress | None = None,
) -> score_report.Report:
    """Score new samples and, beside them, real held-out data; writes JSON into `out`.

    `metrics` names the evaluators (default: as the recipe says); `out` is by default what
    `scores_path` gives. Samples are drawn for the labels, scalars and context of the held-out
    data, as many as there are, `evaluate.num_samples` at most. They miss the values that their
    held-out twins miss, so that gaps weigh the same in both columns. Evaluators of features draw
    as many as they say, for labels in turn. Several processes share the samples and their features.
    What was killed goes on when it is called again, by any number of processes.
    """
    with shared_work(path, overrides, say) as processes:
        say = processes.only_first(say)
        folder, model = load_with(path, overrides, step, say)
        _evaluators(model, metrics)  # before a file is named after a mistake
        target = scores_path(folder.path, metrics) if out is None else out
        return score_model(
            folder,
            model,
            target,
            metrics=metrics,
            say=say,
            progress=progress,
            processes=processes,
        )


def score_model(
    folder: RunFolder,
    model: TrainedModel,
    target: Path,
    *,
    metrics: Sequence[str] | None = None,
    say: Say = print,
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> score_report.Report:
    """As `evaluate_run`, for a model of the run that is loaded; writes the JSON file `target`."""
    evaluators = _evaluators(model, metrics)
    shown = progress if processes.is_first else None
    return Scoring(folder, model, say, shown, processes).evaluate(
        evaluators, lambda scores: score_report.write(scores, target, _how_scored(model))
    )


def _evaluators(model: TrainedModel, metrics: Sequence[str] | None) -> dict[str, Scorer]:
    return choose_evaluators(model.recipe, metrics, model.sampler.info)


def scores_path(run: str | Path, metrics: Sequence[str] | None = None) -> Path:
    """Where scores are written: `scores.json`, or `scores-fid.json` where metrics are named."""
    scores = RunFolder(Path(run).expanduser()).scores
    named = "".join(f"-{name}" for name in dict.fromkeys(metrics or ()))
    return scores.with_stem(scores.stem + named)


def _how_scored(model: TrainedModel) -> dict[str, Any]:
    return how_drawn(model) | {"evaluate": model.recipe.evaluate.model_dump(mode="json")}
