"""The command line: `rawdiff train | sample | eval | verify | tune | study | check | …`."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from rawdiff import exchange, plugins, recipe_file, results, run
from rawdiff.assemble import PACKED_FOLDER
from rawdiff.check import check
from rawdiff.data.packed import pack, packed_folder
from rawdiff.errors import UserError
from rawdiff.evaluate import report as score_report
from rawdiff.explain import explain
from rawdiff.parallel.processes import PeerFailedError, speaks_for_all
from rawdiff.scale import Machines
from rawdiff.study.start import plan_study, run_study
from rawdiff.train.start import train
from rawdiff.train.stopping import STOPPED, StoppedError
from rawdiff.train.verify import verify
from rawdiff.tune.search import parse_grid, tune
from rawdiff.tune.table import outcome_table
from rawdiff.version import __version__

PEER_FAILED, MISTAKE = 1, 2
"""Exit codes, beside 0 for what is done and STOPPED."""

console = Console(
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout.isatty() else 160,  # a file or a pipe has no width
)


def _say(text: str) -> None:
    console.print(text, markup=False)


def _train(args: argparse.Namespace) -> None:
    recipe = recipe_file.load_recipe(args.recipe, args.overrides)
    train(recipe, _say)


def _sample(args: argparse.Namespace) -> None:
    with _bar("sample") as bar:
        results.sample_run(
            args.run, args.overrides, out=args.out, step=args.step, say=_say, progress=bar
        )


def _eval(args: argparse.Namespace) -> None:
    metrics = [name.strip() for part in args.metric for name in part.split(",")] or None
    with _bar("score") as bar:
        scores = results.evaluate_run(
            args.run, args.overrides, step=args.step, metrics=metrics, say=_say, progress=bar
        )
    console.print(score_report.table(scores))
    _say(f"Scores: {results.scores_path(args.run, metrics)}")


def _tune(args: argparse.Namespace) -> None:
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


def _study(args: argparse.Namespace) -> None:
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


def _check(args: argparse.Namespace) -> None:
    recipe = recipe_file.load_recipe(args.recipe, args.overrides)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in check(recipe, _machines(args)):
        table.add_row(row.name, row.text)
    console.print(table)


def _machines(args: argparse.Namespace) -> Machines | None:
    """What to plan for; UserError where it is described but not how many GPUs there are."""
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Machines)}
    given = {name: value for name, value in given.items() if value is not None}
    if given and "world_size" not in given:
        raise UserError("For how many GPUs? Give --world-size, too.")
    return Machines(**given) if given else None


def _verify(args: argparse.Namespace) -> int:
    """0 if the newest checkpoint is sound, else 1."""
    newest_is_sound = False
    table = Table("step", "MB", "kept", "files", box=None, pad_edge=False)
    for verdict in verify(args.run):
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
    return 0 if newest_is_sound else 1


def _prepare(args: argparse.Namespace) -> None:
    recipe = recipe_file.load_recipe(args.recipe, args.overrides)
    for dataset in (recipe.data, recipe.holdout_data):
        if dataset is not None:
            target = packed_folder(dataset, PACKED_FOLDER)
            with _bar("pack") as bar:
                num_workers = recipe.train.num_workers or os.cpu_count() or 1
                packed = pack(dataset, target, num_workers=num_workers, progress=bar)
            damaged = len(packed.index.damaged)
            left_out = f" ({damaged} damaged ones left out)" if damaged else ""
            _say(f"{target} holds {len(packed):,} samples{left_out}.")
            _say("`rawdiff train` with this recipe, given here, reads them from now on.")


def _export(args: argparse.Namespace) -> None:
    which = {"weights": args.weights, "step": args.step}
    if args.format == "rawdiff":
        run.export(args.run, args.out, **which, say=_say)
    else:
        form = plugins.load_plugin("formats", args.format)()
        exchange.export_model(form, args.run, args.out, **which, say=_say)


def _import(args: argparse.Namespace) -> None:
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


def _list(args: argparse.Namespace) -> None:
    table = Table("kind", "name", "where it comes from", box=None, pad_edge=False)
    for kind in plugins.KINDS:
        for plugin in plugins.plugins(kind):
            table.add_row(kind, plugin.name, f"{plugin.package}  {plugin.target}")
    for name, path in recipe_file.built_in_recipes().items():
        table.add_row("recipes", name, str(path))
    console.print(table)


def _schema(args: argparse.Namespace) -> None:
    sys.stdout.write(json.dumps(recipe_file.recipe_schema(), indent=1) + "\n")


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; call it with (done, total)."""
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rawdiff",
        description="Train generative models on raw data: one plain Transformer, any modality.",
    )
    parser.add_argument("--version", action="version", version=f"rawdiff {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(function=function)
        return added

    def overrides(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "overrides", nargs="*", metavar="key=value", help="over the recipe's keys"
        )

    def step(added: argparse.ArgumentParser) -> None:
        added.add_argument("--step", type=int, help="of which checkpoint (default: the newest)")

    for name, function, text in (
        ("train", _train, "Train a recipe; the same command again continues."),
        ("check", _check, "Say what a recipe would do, in seconds and without memory."),
        ("prepare", _prepare, "Pack the data of a recipe for fast reading."),
    ):
        added = command(name, function, text)
        added.add_argument("recipe", help="a YAML file, or the name of a built-in recipe")
        overrides(added)
        if name == "check":
            _add_machines(added)
    for name, function, text in (
        ("sample", _sample, "Draw samples; writes the field's own files and a picture."),
        ("eval", _eval, "Score samples beside real held-out data."),
    ):
        added = command(name, function, text)
        added.add_argument("run", help="the run's folder, or an export")
        overrides(added)
        step(added)
        if name == "sample":
            added.add_argument("--out", type=Path, help="folder (default: samples in the run)")
        else:
            added.add_argument(
                "--metric",
                action="append",
                default=[],
                metavar="NAME[,NAME]",
                help="of these evaluators only (default: those of the recipe)",
            )
    added = command("verify", _verify, "Check every file of a run's checkpoints.")
    added.add_argument("run", help="the run's folder")
    added = command("tune", _tune, "Find the best average of the weights and guidance by a score.")
    added.add_argument("run", help="the run's folder, or an export")
    overrides(added)
    added.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=VALUE,VALUE",
        help="a key of `sample:` and its values, such as cfg_scale=1,1.5,2; once for each key",
    )
    added.add_argument("--metric", default="frechet", help="the score (default: %(default)s)")
    added.add_argument("--num-samples", type=int, help="scored at each point (default: as eval)")
    step(added)
    added = command("study", _study, "Train every combination of a grid of keys; compare them.")
    added.add_argument("recipe", help="a YAML file, or the name of a built-in recipe")
    added.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=VALUE,VALUE",
        help="a recipe key and its values; give it once for each key",
    )
    added.add_argument("--out", type=Path, help="the study's folder (default: studies/RECIPE)")
    added.add_argument(
        "--parallel", type=int, metavar="N", help="cells at a time (default: one for each GPU)"
    )
    added.add_argument("--metric", help="score in the picture (default: the first)")
    added.add_argument("--check", action="store_true", help="only say what would be done")
    added.add_argument("--strict", action="store_true", help="fail if any cell failed")
    overrides(added)
    added = command("import", _import, "Read a checkpoint of other code, without unpickling it.")
    added.add_argument("format", help="a plug-in, such as jit; `rawdiff import FORMAT --help`")
    added.add_argument("rest", nargs=argparse.REMAINDER, metavar="FILE OUT ...")
    added = command("export", _export, "Write a model as safetensors, or for other code.")
    added.add_argument("run")
    added.add_argument("out", type=Path)
    added.add_argument("--format", default="rawdiff", help="rawdiff (default), or such as jit")
    added.add_argument("--weights", help="an EMA such as decay_0.9999, or model")
    step(added)
    command("list", _list, "List plug-ins and recipes, and where each comes from.")
    command("schema", _schema, "Print the JSON schema of recipes, for editors.")
    return parser


def _add_machines(added: argparse.ArgumentParser) -> None:
    """What no recipe holds: for which machines a run is planned."""
    for flag, kind, text in (
        ("--world-size", int, "plan for so many GPUs that need not be there"),
        ("--gpus-per-machine", int, "default 8"),
        ("--memory-gib", float, "of each GPU (default 140, H200)"),
        ("--tflops", float, "dense bfloat16 peak of each GPU (default 989, H200)"),
        ("--mfu", float, "share of the peak that is expected (default 0.4)"),
        ("--inside", float, "GB/s that a GPU sends inside its machine (default 400)"),
        ("--between", float, "GB/s that a GPU sends to other machines (default 50)"),
    ):
        added.add_argument(flag, type=kind, metavar="N", help=text)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments, where `key=value` may stand before and after options."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(args, "overrides") or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.overrides = [*args.overrides, *rest]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake is shown without a trace, with exit code 2."""
    args = _parse(argv)
    try:
        return args.function(args) or 0
    except StoppedError:
        return STOPPED
    except UserError as error:
        if speaks_for_all(error):
            _complain(error)
        return MISTAKE
    except OSError as error:
        sys.stderr.write(f"rawdiff: the system refuses: {error}. Mend that and try again.\n")
        return MISTAKE
    except PeerFailedError as error:
        if str(error):
            _complain(error)
        return PEER_FAILED
    except KeyboardInterrupt:
        return 130


def _complain(error: Exception) -> None:
    """With the process that it befell, where there are several."""
    where = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"rawdiff: {error}{where}", markup=False)
