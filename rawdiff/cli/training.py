"""What each command that has to do with training does with its arguments."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import time

from rich.table import Table

from rawdiff import recipe_file
from rawdiff.assemble import PACKED_FOLDER, packed_or_raw
from rawdiff.bench.advice import advise
from rawdiff.bench.measure import bench
from rawdiff.bench.table import as_json, facts_table, parts_table
from rawdiff.cli.terminal import bar_of, console, print_json, put, say
from rawdiff.data.packed import PackedDataset, pack, packed_folder
from rawdiff.errors import UserError
from rawdiff.parallel.launch import speaks_for_all
from rawdiff.plan.check import check
from rawdiff.plan.scale import Machines
from rawdiff.saved.verify import verify
from rawdiff.study.start import plan_study, run_study
from rawdiff.train.replay import Compared, Replay, replay
from rawdiff.train.start import train


def do_train(args: argparse.Namespace) -> None:
    recipe = recipe_file.load_recipe(args.recipe, args.overrides)
    train(recipe, say, quiet=args.quiet)


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


def _machines(args: argparse.Namespace) -> Machines | None:
    """What to plan for; UserError where it is described but not how many GPUs there are."""
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Machines)}
    given = {name: value for name, value in given.items() if value is not None}
    if given and "world_size" not in given:
        raise UserError("For how many GPUs? Give --world-size, too.")
    return Machines(**given) if given else None


def do_bench(args: argparse.Namespace) -> None:
    recipe = recipe_file.load_recipe(args.recipe, args.overrides)
    with console.status("starting") as status:
        start = time.monotonic()

        def show(text: str) -> None:
            status.update(f"{text} ({time.monotonic() - start:.0f} of about {args.seconds:g} s)")

        found = bench(
            recipe,
            seconds=args.seconds,
            synthetic=args.synthetic,
            profile=args.profile,
            say=show,
        )
    if not speaks_for_all():
        return
    for table in (parts_table(found), facts_table(found)):
        console.print(table)
        say("")
    for sentence in advise(found):
        say(f"- {sentence}")
    if args.profile is not None:
        say(f"Profile, for https://ui.perfetto.dev or chrome://tracing: {args.profile}")
    if args.json:
        put(as_json(found))


def do_prepare(args: argparse.Namespace) -> None:
    recipe = recipe_file.load_recipe(args.recipe, args.overrides)
    for dataset in (recipe.data, recipe.holdout_data):
        if dataset is not None:
            with bar_of("pack") as bar:
                target = dataset.pack(PACKED_FOLDER, bar)
                if target is None:
                    target = packed_folder(dataset, PACKED_FOLDER)
                    num_workers = recipe.train.num_workers or os.cpu_count() or 1
                    pack(dataset, target, num_workers=num_workers, progress=bar)
            packed = packed_or_raw(dataset)
            damaged = len(packed.index.damaged) if isinstance(packed, PackedDataset) else 0
            left_out = f" ({damaged} damaged ones left out)" if damaged else ""
            say(f"{target} holds {len(packed):,} samples{left_out}.")
            for finding in packed.findings():
                say(f"  {finding.name}: {finding.text}")
            say("`rawdiff train` with this recipe, given here, reads them from now on.")


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
        say(line)
    if args.check:
        return
    out = run_study(study, strict=args.strict, say=say)
    say(f"Table: {out / 'table.md'} and table.csv  picture: {out / 'picture.png'}")


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
        say(f"{args.run} has no checkpoint yet.")
    if args.json:
        print_json([dataclasses.asdict(verdict) for verdict in verdicts])
    return 0 if newest_is_sound else 1


def do_replay(args: argparse.Namespace) -> None:
    with bar_of("steps before") as bar:
        found = replay(args.run, args.step, args.overrides, say=say, progress=bar)
    if speaks_for_all():
        console.print(_replay_table(found))
        say(found.verdict())


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
