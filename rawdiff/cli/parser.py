"""The arguments of `rawdiff train | sample | eval | report | verify | tune | study | …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from rawdiff.cli import completion
from rawdiff.cli.manual import EXIT_CODES, SCRIPTS, examples
from rawdiff.cli.terminal import console
from rawdiff.version import __version__

JSON = ("check", "bench", "eval", "likelihood", "verify", "list")
"""Commands whose result a script may want."""


class _Later:
    """A module of commands, imported when one is called: `--help` must not wait for torch."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Callable[[argparse.Namespace], Any]:
        def call(args: argparse.Namespace) -> Any:
            console.quiet = args.quiet
            console.stderr = getattr(args, "json", False)  # the JSON has stdout to itself
            return getattr(import_module(self._module), name)(args)

        return call


training, models, kit, lookup = (
    _Later(f"rawdiff.cli.{name}") for name in ("training", "models", "kit", "lookup")
)


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Of the whole command line, and of each command by its name."""
    parser = argparse.ArgumentParser(
        prog="rawdiff",
        description="Train generative models on raw data: one plain Transformer, any modality.",
        epilog=f"{EXIT_CODES}\n{SCRIPTS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rawdiff {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(
            name,
            help=text,
            description=text,
            epilog=examples(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(function=function)
        added.add_argument("--quiet", action="store_true", help="show mistakes alone")
        if name in JSON:
            added.add_argument(
                "--json", action="store_true", help="print JSON, and all else on standard error"
            )
        return added

    def overrides(added: argparse.ArgumentParser) -> None:
        keys_of(added, "the recipe")

    def keys_of(added: argparse.ArgumentParser, what: str) -> None:
        added.add_argument("overrides", nargs="*", metavar="key=value", help=f"keys of {what}")

    def step(added: argparse.ArgumentParser) -> None:
        added.add_argument("--step", type=int, help="of which checkpoint (default: the newest)")

    for name, function, text in (
        ("train", training.do_train, "Train a recipe; the same command again continues."),
        ("check", training.do_check, "Say what a recipe would do, in seconds and without memory."),
        ("bench", training.do_bench, "Say how fast a recipe trains here, and what to change."),
        ("prepare", training.do_prepare, "Pack the data of a recipe for fast reading."),
    ):
        added = command(name, function, text)
        added.add_argument("recipe", help="a YAML file, or the name of a built-in recipe")
        overrides(added)
        if name == "check":
            _add_machines(added)
        if name == "bench":
            _add_measuring(added)
    for name, function, text in (
        ("sample", models.do_sample, "Draw samples; writes the field's own files and a picture."),
        ("eval", models.do_eval, "Score samples beside real held-out data."),
    ):
        added = command(name, function, text)
        added.add_argument("run", help="the run's folder, or an export")
        overrides(added)
        step(added)
        if name == "sample":
            added.add_argument("--out", type=Path, help="folder (default: samples in the run)")
            added.add_argument(
                "--film", action="store_true", help="film.gif of the way to the first samples, too"
            )
            added.add_argument(
                "--between",
                type=int,
                nargs=2,
                metavar=("I", "J"),
                help="on the way from sample number I to number J of the same seed",
            )
            _add_observation(added)
            _add_forecasts(added)
        else:
            added.add_argument(
                "--metric",
                action="append",
                default=[],
                metavar="NAME[,NAME]",
                help="of these evaluators only (default: those of the recipe)",
            )
            added.add_argument(
                "--calibration",
                action="store_true",
                help="instead: is the spread right of samples that saw a part of held-out ones?",
            )
            added.add_argument(
                "--members", type=int, metavar="K", help="draws of each (default 19)"
            )
            added.add_argument("--truths", type=int, metavar="N", help="held out (default 64)")
    added = command(
        "likelihood",
        models.do_likelihood,
        "Say how likely a model holds real held-out samples: nats, bits per dimension.",
    )
    added.add_argument("run", help="the run's folder, or an export")
    overrides(added)
    step(added)
    added.add_argument(
        "--num-probes",
        type=int,
        default=1,
        metavar="N",
        help="random directions by which the divergence is estimated (default: %(default)s)",
    )
    added.add_argument(
        "--cut", type=float, help="the 1 - t at which the model is taken (default: flow.t_eps)"
    )
    added = command("report", models.do_report, "Write a page about a run, to look at.")
    added.add_argument("run", help="the run's folder, or an export")
    added.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the run")
    added = command("verify", training.do_verify, "Check every file of a run's checkpoints.")
    added.add_argument("run", help="the run's folder")
    added = command(
        "replay", training.do_replay, "Run one step of a run again, for a suspected fault."
    )
    added.add_argument("run", help="the run's folder")
    overrides(added)
    added.add_argument("--step", type=int, required=True, metavar="K", help="the step to look at")
    added = command(
        "tune", models.do_tune, "Find the best average of the weights and guidance by a score."
    )
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
    added = command(
        "study", training.do_study, "Train every combination of a grid of keys; compare them."
    )
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
    added = command(
        "import", models.do_import, "Read a checkpoint of other code, without unpickling it."
    )
    added.add_argument("format", help="a plug-in, such as jit; `rawdiff import FORMAT --help`")
    added.add_argument("rest", nargs=argparse.REMAINDER, metavar="FILE OUT ...")
    added = command("export", models.do_export, "Write a model as safetensors, or for other code.")
    added.add_argument("run")
    added.add_argument("out", type=Path)
    added.add_argument(
        "--format", default="rawdiff", help="rawdiff (default), or such as jit, torch_export"
    )
    added.add_argument("--weights", help="an EMA such as decay_0.9999, or model")
    added.add_argument("--license", metavar="NAME", help="for the model card, such as cc-by-4.0")
    step(added)
    added = command("new", kit.do_new, "Write a small package to begin with.")
    added.add_argument("kind", choices=["adapter"], help="what it brings")
    added.add_argument("name", help="of the plug-in, as recipes will say it")
    added.add_argument("folder", type=Path, nargs="?", help="a new one (default: the name)")
    added = command("check-adapter", kit.do_check_adapter, "Say which promises an adapter keeps.")
    added.add_argument("name", help="the adapter, as recipes say it")
    keys_of(added, "the adapter")
    added.add_argument("--shape", metavar="C,S1,S2", help="of the samples that it is to cut")
    added.add_argument(
        "--data",
        metavar="NAME",
        help="instead: of this dataset, or with keys `{name: array, path: FILE}`",
    )
    added = command("check-dataset", kit.do_check_dataset, "Say which promises a dataset keeps.")
    added.add_argument("name", help="the dataset, as recipes say it")
    keys_of(added, "the dataset")
    added.add_argument(
        "--adapter", metavar="NAME", help="that cuts its samples, or `{name: grid, patch_size: 4}`"
    )
    command("list", lookup.do_list, "List plug-ins and recipes, and where each comes from.")
    added = command("keys", lookup.do_keys, "Say what each key of a recipe means.")
    added.add_argument(
        "words", nargs="*", metavar="WORD", help="a section, a plug-in or a key: train, sample.eta"
    )
    added.add_argument("--markdown", action="store_true", help="as a page of documentation")
    added = command("schema", lookup.do_schema, "Write the JSON schema of recipes, for editors.")
    added.add_argument("file", type=Path, nargs="?", help="default: print it")
    added = command(
        "completion", completion.do_completion, "Print what makes a shell complete commands."
    )
    added.add_argument("shell", choices=completion.SHELLS)
    return parser, dict(subparsers.choices)


def _add_observation(added: argparse.ArgumentParser) -> None:
    """Shorter than its keys under `sample.observe`."""
    added.add_argument(
        "--observe", type=Path, metavar="FILE", help="what samples are to agree with: .npy, .csv, …"
    )
    added.add_argument(
        "--operator",
        metavar="NAME",
        help="of what was observed: mask (default), stations, or with keys `{name: coarsen, "
        "factor: 4}`",
    )


def _add_forecasts(added: argparse.ArgumentParser) -> None:
    """Of a model that was trained on a series in time."""
    added.add_argument(
        "--init",
        action="append",
        default=[],
        metavar="TIME[,TIME]",
        help="forecast from the known state of that time, or of FIRST/LAST/STEP",
    )
    added.add_argument("--steps", type=int, metavar="N", help="how far, in steps of the data")
    added.add_argument("--members", type=int, metavar="N", help="of the ensemble (default 10)")


def _add_measuring(added: argparse.ArgumentParser) -> None:
    """What no recipe holds: how long is measured, and where more of it goes."""
    added.add_argument(
        "--seconds", type=float, default=60.0, metavar="N", help="about so long (default 60)"
    )
    added.add_argument(
        "--synthetic",
        action="store_true",
        help="with random samples of the data's shape; no data is read",
    )
    added.add_argument(
        "--profile", type=Path, metavar="FILE.json", help="write a trace of some steps for Perfetto"
    )


def _add_machines(added: argparse.ArgumentParser) -> None:
    """What no recipe holds: for which machines a run is planned."""
    for flag, kind, text in (
        ("--world-size", int, "plan for so many GPUs that need not be there"),
        ("--gpus-per-machine", int, "default 8"),
        ("--memory-gib", float, "of each GPU (default 140, H200)"),
        ("--tflops", float, "dense bfloat16 peak of each GPU (default 989, H200)"),
        ("--mfu", float, "share of the peak that is expected (default 0.4)"),
        (
            "--samples-per-second",
            float,
            "in place of --mfu: measured on one GPU by `rawdiff bench` of this recipe",
        ),
        ("--inside", float, "GB/s that a GPU sends inside its machine (default 400)"),
        ("--between", float, "GB/s that a GPU sends to other machines (default 50)"),
    ):
        added.add_argument(flag, type=kind, metavar="N", help=text)


def _is_key(text: str) -> bool:
    return "=" in text and not text.startswith("-")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments, where `key=value` may stand before and after options."""
    parser, names = make_parser()
    wanted = next(iter(sys.argv[1:] if argv is None else argv), "")
    if wanted not in names and (near := get_close_matches(wanted, names, n=1)):
        parser.error(f"there is no command `{wanted}`; did you mean `rawdiff {near[0]}`?")
    args, rest = parser.parse_known_args(argv)
    takes_keys = hasattr(args, "overrides")
    if rest and (not takes_keys or any(text.startswith("-") for text in rest)):
        strange = [text for text in rest if not takes_keys or not _is_key(text)]
        advice = "; keys of a recipe are given as key=value" if takes_keys else ""
        parser.error(
            f"unrecognized arguments: {' '.join(strange)} (`rawdiff {args.command} --help` lists "
            f"the options{advice})"
        )
    if rest:
        args.overrides = [*args.overrides, *rest]
    return args
