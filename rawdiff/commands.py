"""What each command of the command line does with its arguments."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from rawdiff import calibrate, exchange, likelihood, plugins, recipe_file, results
from rawdiff.assemble import PACKED_FOLDER, packed_or_raw
from rawdiff.bench.advice import advise
from rawdiff.bench.measure import bench
from rawdiff.bench.table import as_json, facts_table, parts_table
from rawdiff.check import check
from rawdiff.data.packed import PackedDataset, pack, packed_folder
from rawdiff.errors import UserError
from rawdiff.evaluate import report as score_report
from rawdiff.explain import explain
from rawdiff.export import export
from rawdiff.forecast import forecast_run
from rawdiff.parallel.launch import speaks_for_all
from rawdiff.progress import progress_of
from rawdiff.report.concerns import score_concerns
from rawdiff.report.page import write_report
from rawdiff.saved.folder import RunFolder
from rawdiff.saved.verify import verify
from rawdiff.scale import Machines
from rawdiff.series import Request
from rawdiff.study.start import plan_study, run_study
from rawdiff.train.replay import Compared, Replay, replay
from rawdiff.train.start import train
from rawdiff.tune.search import parse_grid, tune
from rawdiff.tune.table import outcome_table

DEFAULT_MEMBERS = 10  # of a forecast
console = Console(
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout.isatty() else 160,  # a file or a pipe has no width
)


def print_json(content: object) -> None:
    sys.stdout.write(json.dumps(content, indent=1) + "\n")


def _say(text: str) -> None:
    console.print(text, markup=False)


def do_train(args: argparse.Namespace) -> None:
    recipe = recipe_file.load_recipe(args.recipe, args.overrides)
    train(recipe, _say)


def do_sample(args: argparse.Namespace) -> None:
    which = {"out": args.out, "step": args.step, "say": _say}
    request, overrides = _request(args), [*_observation(args), *args.overrides]
    if args.between is not None:
        if request is not None:
            raise UserError("--between is for samples; a forecast has none.")
        overrides = [f"sample.between={args.between}", *overrides]
    with _bar("sample" if request is None else "draw") as bar:
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
    with _bar("score") as bar:
        scores = results.evaluate_run(
            args.run, args.overrides, step=args.step, metrics=metrics, say=_say, progress=bar
        )
    console.print(score_report.table(scores))
    for concern in score_concerns(scores.scores):
        _say(str(concern))
    path = results.scores_path(args.run, metrics)
    _say(f"Scores: {path}")
    if args.json:
        sys.stdout.write(path.read_text(encoding="utf-8"))


def _calibrate(args: argparse.Namespace) -> None:
    if args.metric:
        raise UserError("--calibration has no --metric: leave out one of them.")
    with _bar("truth") as bar:
        found = calibrate.calibrate_run(
            args.run,
            args.overrides,
            step=args.step,
            num_members=calibrate.NUM_MEMBERS if args.members is None else args.members,
            num_truths=calibrate.NUM_TRUTHS if args.truths is None else args.truths,
            say=_say,
            progress=bar,
        )
    if not speaks_for_all():
        return
    console.print(calibrate.table(found))
    _say(f"Calibration: {RunFolder(Path(args.run)).calibration}")


def do_likelihood(args: argparse.Namespace) -> None:
    with _bar("sample") as bar:
        found = likelihood.likelihood_run(
            args.run,
            args.overrides,
            step=args.step,
            num_probes=args.num_probes,
            cut=args.cut,
            say=_say,
            progress=bar,
        )
    if not speaks_for_all():
        return
    console.print(likelihood.table(found))
    _say(f"Of each sample: {RunFolder(Path(args.run)).likelihood}")


def do_report(args: argparse.Namespace) -> None:
    _say(f"Report: {write_report(args.run, args.out)}")


def do_tune(args: argparse.Namespace) -> None:
    with _bar("score") as bar:
        outcome = tune(
            args.run,
            args.overrides,
            grid=parse_grid(args.grid),
            metric=args.metric,
            num_samples=args.num_samples,
            step=args.step,
            say=_say,
            progress=bar,
        )
    console.print(outcome_table(outcome))
    _say(f"Table and picture: {outcome.folder}")
    _say(f"The best is the default for sampling from now on: {Path(args.run) / 'tuned.yaml'}")


def do_study(args: argparse.Namespace) -> None:
    study = plan_study(
        args.recipe,
        args.grid,
        args.overrides,
        out=args.out,
        metric=args.metric,
        parallel=args.parallel,
    )
    for line in study.describe():
        _say(line)
    if args.check:
        return
    out = run_study(study, strict=args.strict, say=_say)
    _say(f"Table: {out / 'table.md'} and table.csv  picture: {out / 'picture.png'}")


def do_check(args: argparse.Namespace) -> None:
    recipe = recipe_file.load_recipe(args.recipe, args.overrides)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = check(recipe, _machines(args))
    for row in rows:
        table.add_row(row.name, row.text)
    console.print(table)
    if args.json:
        print_json([dataclasses.asdict(row) for row in rows])


def do_bench(args: argparse.Namespace) -> None:
    recipe = recipe_file.load_recipe(args.recipe, args.overrides)
    with console.status("starting") as status:
        start = time.monotonic()

        def say(text: str) -> None:
            status.update(f"{text} ({time.monotonic() - start:.0f} of about {args.seconds:g} s)")

        found = bench(
            recipe,
            seconds=args.seconds,
            synthetic=args.synthetic,
            profile=args.profile,
            say=say,
        )
    if not speaks_for_all():
        return
    for table in (parts_table(found), facts_table(found)):
        console.print(table)
        _say("")
    for sentence in advise(found):
        _say(f"- {sentence}")
    if args.profile is not None:
        _say(f"Profile, for https://ui.perfetto.dev or chrome://tracing: {args.profile}")
    if args.json:
        sys.stdout.write(as_json(found))


def do_replay(args: argparse.Namespace) -> None:
    with _bar("steps before") as bar:
        found = replay(args.run, args.step, args.overrides, say=_say, progress=bar)
    if speaks_for_all():
        console.print(_replay_table(found))
        _say(found.verdict())


def _replay_table(found: Replay) -> Table:
    """What the step was like, the samples that it met, and what the run left of it."""
    seen = found.diagnosis
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("loss", f"{seen.loss:.6g}")
    table.add_row("gradient norm", f"{seen.grad_norm:.6g} (usual: {seen.usual_grad_norm:.6g})")
    for block, norm in found.block_norms.items():
        table.add_row(f"  {block}", f"{norm:.4g}")
    table.add_row("step", "taken" if found.taken else "skipped by the guard")
    for sample in seen.worst_samples[:5]:
        table.add_row(
            f"sample {sample['index']}",
            f"loss {sample['loss']:.4g} at t {sample['t']:.3f}, place {sample['place']} of the run",
        )
    table.add_row("computed twice", "other bits" if found.unrepeatable else "the same bits")
    for step, line in itertools.groupby(found.compared, key=lambda one: one.step):
        table.add_row(f"log of step {step}", _beside(list(line)))
    if found.unlike_checkpoint is not None:
        other = len(found.unlike_checkpoint)
        text = f"{other} tensors have other bits" if other else "the same bits"
        table.add_row("its checkpoint", text)
    return table


def _beside(line: list[Compared]) -> str:
    """A line of the log: its first metric, and how far it is from what came out now."""
    first, worst = line[0], max(line, key=lambda one: one.difference)
    text = f"{first.name} {first.logged:.6g}, {first.now:.6g} now; "
    if worst.difference == 0:
        return f"{text}all {len(line)} metrics have the same bits"
    return f"{text}largest relative difference {worst.difference:.1g} ({worst.name})"


def _machines(args: argparse.Namespace) -> Machines | None:
    """What to plan for; UserError where it is described but not how many GPUs there are."""
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Machines)}
    given = {name: value for name, value in given.items() if value is not None}
    if given and "world_size" not in given:
        raise UserError("For how many GPUs? Give --world-size, too.")
    return Machines(**given) if given else None


def do_verify(args: argparse.Namespace) -> int:
    """0 if the newest checkpoint is sound, else 1."""
    newest_is_sound = False
    verdicts = list(verify(args.run))
    table = Table("step", "MB", "kept", "files", box=None, pad_edge=False)
    for verdict in verdicts:
        newest_is_sound = verdict.damage is None
        table.add_row(
            f"{verdict.step:,}",
            f"{verdict.num_bytes / 1e6:,.1f}",
            "for good" if verdict.permanent else "until newer ones",
            "sound" if verdict.damage is None else f"DAMAGED: {verdict.damage}",
        )
    if table.row_count:
        console.print(table)
    else:
        _say(f"{args.run} has no checkpoint yet.")
    if args.json:
        print_json([dataclasses.asdict(verdict) for verdict in verdicts])
    return 0 if newest_is_sound else 1


def do_prepare(args: argparse.Namespace) -> None:
    recipe = recipe_file.load_recipe(args.recipe, args.overrides)
    for dataset in (recipe.data, recipe.holdout_data):
        if dataset is not None:
            with _bar("pack") as bar:
                target = dataset.pack(PACKED_FOLDER, bar)
                if target is None:
                    target = packed_folder(dataset, PACKED_FOLDER)
                    num_workers = recipe.train.num_workers or os.cpu_count() or 1
                    pack(dataset, target, num_workers=num_workers, progress=bar)
            packed = packed_or_raw(dataset)
            damaged = len(packed.index.damaged) if isinstance(packed, PackedDataset) else 0
            left_out = f" ({damaged} damaged ones left out)" if damaged else ""
            _say(f"{target} holds {len(packed):,} samples{left_out}.")
            for finding in packed.findings():
                _say(f"  {finding.name}: {finding.text}")
            _say("`rawdiff train` with this recipe, given here, reads them from now on.")


def do_export(args: argparse.Namespace) -> None:
    which = {"weights": args.weights, "step": args.step}
    if args.format == "rawdiff":
        export(args.run, args.out, **which, licence=args.license, say=_say)
    elif args.license is not None:
        raise UserError("--license stands in the model card of a folder; leave out --format.")
    else:
        form = plugins.load_plugin("formats", args.format)()
        exchange.export_model(form, args.run, args.out, **which, say=_say)


def do_import(args: argparse.Namespace) -> None:
    """The options after the format's name are the fields of that format."""
    format_class = plugins.load_plugin("formats", args.format)
    parser = argparse.ArgumentParser(
        prog=f"rawdiff import {args.format}", description=inspect.getdoc(format_class)
    )
    parser.add_argument("file", type=Path, help="the checkpoint")
    parser.add_argument("out", type=Path, help="a new folder")
    for name, field in format_class.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, default=argparse.SUPPRESS, help=field.description)
    options = vars(parser.parse_args(args.rest))
    file, out = options.pop("file"), options.pop("out")
    try:
        form = format_class(**options)
    except ValidationError as error:
        raise UserError("; ".join(explain(error, format_class))) from None
    exchange.import_model(form, file, out, say=_say)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows progress; call it with (done, total)."""
    with progress_of(what, console, _say) as progress:
        yield progress
