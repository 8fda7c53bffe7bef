"""What each command that uses a trained model does with its arguments."""

from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path

from pydantic import ValidationError

from rawdiff import plugins, results
from rawdiff.cli.terminal import bar_of, console, put, say
from rawdiff.errors import UserError
from rawdiff.evaluate import report as score_report
from rawdiff.exchange.checkpoints import export_model, import_model
from rawdiff.exchange.export import export
from rawdiff.explain import explain
from rawdiff.forecast import forecast_run
from rawdiff.parallel.launch import speaks_for_all
from rawdiff.report.concerns import score_concerns
from rawdiff.report.page import write_report
from rawdiff.report.record import read_record
from rawdiff.saved.folder import RunFolder
from rawdiff.scoring import calibrate, likelihood
from rawdiff.series import Request
from rawdiff.tune.search import parse_grid, tune
from rawdiff.tune.table import outcome_table
from rawdiff.warn.averages import tuned_average

DEFAULT_MEMBERS = 10  # of a forecast


def do_sample(args: argparse.Namespace) -> None:
    which = {"out": args.out, "step": args.step, "say": say}
    request, overrides = _request(args), [*_observation(args), *args.overrides]
    if args.between is not None:
        if request is not None:
            raise UserError("--between is for samples; a forecast has none.")
        overrides = [f"sample.between={args.between}", *overrides]
    with bar_of("sample" if request is None else "draw") as bar:
        if request is None:
            results.sample_run(args.run, overrides, **which, film=args.film, progress=bar)
        else:
            forecast_run(args.run, request, overrides, **which, progress=bar)


def _observation(args: argparse.Namespace) -> list[str]:
    """As keys of the recipe; UserError for an operator without what it gave."""
    if args.observe is None:
        if args.operator is not None:
            raise UserError("--operator of which observation? Give its file with --observe, too.")
        return []
    file = [f"sample.observe.file={json.dumps(str(args.observe))}"]
    if args.operator is None:
        return file
    operator = args.operator if "{" in args.operator else f"{{name: {args.operator}}}"
    return [f"sample.observe.operator={operator}", *file]


def _request(args: argparse.Namespace) -> Request | None:
    """The forecasts that are asked for; UserError where it is not said from which init."""
    numbers = {"--steps": args.steps, "--members": args.members}
    if not args.init:
        if given := [flag for flag, number in numbers.items() if number is not None]:
            raise UserError(f"{' and '.join(given)} of which forecast? Give --init, too.")
        return None
    if any(number is not None and number < 1 for number in numbers.values()):
        raise UserError("--steps and --members are 1 or more.")
    if args.film:
        raise UserError("--film shows how samples are drawn; a forecast has none.")
    inits = tuple(text.strip() for part in args.init for text in part.split(","))
    return Request(inits, args.steps, args.members or DEFAULT_MEMBERS)


def do_eval(args: argparse.Namespace) -> None:
    if args.calibration:
        _calibrate(args)
        return
    if args.members is not None or args.truths is not None:
        raise UserError("--members and --truths are of --calibration: give it, too.")
    metrics = [name.strip() for part in args.metric for name in part.split(",")] or None
    with bar_of("score") as bar:
        scores = results.evaluate_run(
            args.run, args.overrides, step=args.step, metrics=metrics, say=say, progress=bar
        )
    if not speaks_for_all():
        return
    console.print(score_report.table(scores))
    for concern in score_concerns(scores.scores):
        say(str(concern))
    _tell("Scores", results.scores_path(args.run, metrics), args)


def _calibrate(args: argparse.Namespace) -> None:
    if args.metric:
        raise UserError("--calibration has no --metric: leave out one of them.")
    with bar_of("truth") as bar:
        found = calibrate.calibrate_run(
            args.run,
            args.overrides,
            step=args.step,
            num_members=calibrate.NUM_MEMBERS if args.members is None else args.members,
            num_truths=calibrate.NUM_TRUTHS if args.truths is None else args.truths,
            say=say,
            progress=bar,
        )
    if not speaks_for_all():
        return
    console.print(calibrate.table(found))
    _tell("Calibration", RunFolder(Path(args.run)).calibration, args)


def do_likelihood(args: argparse.Namespace) -> None:
    with bar_of("sample") as bar:
        found = likelihood.likelihood_run(
            args.run,
            args.overrides,
            step=args.step,
            num_probes=args.num_probes,
            cut=args.cut,
            say=say,
            progress=bar,
        )
    if not speaks_for_all():
        return
    console.print(likelihood.table(found))
    _tell("Of each sample", RunFolder(Path(args.run)).likelihood, args)


def _tell(what: str, path: Path, args: argparse.Namespace) -> None:
    """Where the numbers are; with --json, the numbers."""
    say(f"{what}: {path}")
    if args.json:
        put(path.read_text(encoding="utf-8"))


def do_report(args: argparse.Namespace) -> None:
    say(f"Report: {write_report(args.run, args.out)}")


def do_tune(args: argparse.Namespace) -> None:
    with bar_of("score") as bar:
        outcome = tune(
            args.run,
            args.overrides,
            grid=parse_grid(args.grid),
            metric=args.metric,
            num_samples=args.num_samples,
            step=args.step,
            say=say,
            progress=bar,
        )
    if not speaks_for_all():
        return
    console.print(outcome_table(outcome))
    record = read_record(args.run)
    num_steps = record.recipe.train.num_steps
    if concern := tuned_average(record.tried, outcome.metric, num_steps):
        say(str(concern))
    say(f"Table and picture: {outcome.folder}")
    say(f"The best is the default for sampling from now on: {Path(args.run) / 'tuned.yaml'}")


def do_export(args: argparse.Namespace) -> None:
    which = {"weights": args.weights, "step": args.step}
    if args.format == "rawdiff":
        export(args.run, args.out, **which, licence=args.license, say=say)
    elif args.license is not None:
        raise UserError("--license stands in the model card of a folder; leave out --format.")
    else:
        form = plugins.load_plugin("formats", args.format)()
        export_model(form, args.run, args.out, **which, say=say)


def do_import(args: argparse.Namespace) -> None:
    """The options after the format's name are the fields of that format."""
    format_class = plugins.load_plugin("formats", args.format)
    parser = argparse.ArgumentParser(
        prog=f"rawdiff import {args.format}", description=inspect.getdoc(format_class)
    )
    parser.add_argument("file", type=Path, help="the checkpoint")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--quiet", action="store_true", help="show mistakes alone")
    for name, field in format_class.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, default=argparse.SUPPRESS, help=field.description)
    options = vars(parser.parse_args(args.rest))
    file, out = options.pop("file"), options.pop("out")
    console.quiet |= options.pop("quiet")  # wherever it stands
    try:
        form = format_class(**options)
    except ValidationError as error:
        raise UserError("; ".join(explain(error, format_class))) from None
    import_model(form, file, out, say=say)
