"""What a recipe would do, before it is done; the published sizes, in seconds and without memory."""

import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from runs import rawdiff, write_arrays

from rawdiff.assemble import make_network, make_patcher
from rawdiff.built_in import built_in_recipes
from rawdiff.cli.main import main
from rawdiff.data.statistics import fixed
from rawdiff.parallel.batch import Shares
from rawdiff.plan.check import share_of_waiting
from rawdiff.plan.scale import Machines, Plan, make_plan
from rawdiff.recipe_file import load_recipe
from rawdiff.train.cost import measure_cost

# Millions of parameters, billions of multiply-adds: arXiv 2511.13720, tables 5 to 7. At patch 64
# the table rounds its 30; the network as it is described has 27.9.
PUBLISHED = {
    "b16": (131, 25),
    "l16": (459, 88),
    "h16": (953, 182),
    "g16": (2007, 383),
    "b32": (133, 26),
    "l32": (462, 89),
    "h32": (956, 183),
    "g32": (2011, 384),
    "b64": (141, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_have_the_published_size(name) -> None:
    recipe = load_recipe(f"imagenet_jit_{name}")
    info = recipe.data.info
    patcher = make_patcher(recipe, info, fixed(0, 1, info.shape), torch.device("cpu"))
    cost = measure_cost(make_network(recipe, info, patcher))
    parameters, multiply_adds = PUBLISHED[name]
    assert cost.num_parameters / 1e6 == pytest.approx(parameters, rel=0.02)
    if multiply_adds:
        assert cost.multiply_adds / 1e9 == pytest.approx(multiply_adds, rel=0.02)


def test_the_largest_recipe_is_checked_without_data_in_seconds_and_little_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = rawdiff("check", "imagenet_jit_g32")
    assert done.returncode == 0, done.stderr
    # Of the processor's time: what else the machine does must not decide.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 15
    assert "not there, so only the recipe was checked" in done.stdout
    for words in ("row 16 × column 16 = 256 patches of 3072 values", "MiB", "400,320"):
        assert words in done.stdout
    used_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert used_kib < 2 * 2**20  # of the largest child so far


def test_importing_is_possible_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rawdiff", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("rawdiff ")


IMAGENET = [name for name in built_in_recipes() if name.startswith("imagenet")]


@pytest.mark.parametrize("name", IMAGENET)
def test_every_published_recipe_fits_1_8_and_1024_gpus(name) -> None:
    recipe = load_recipe(name)
    info = recipe.data.info
    patcher = make_patcher(recipe, info, fixed(0, 1, info.shape), torch.device("cpu"))
    plan = None  # cost and activations are the same for any number of GPUs
    for count in (1, 8, 1024):
        plan = make_plan(recipe, info, patcher, Machines(count), plan)
        assert plan.fits
        assert plan.footprint.replicate * plan.footprint.shard == count
        assert plan.shares.of_process * count == recipe.train.batch_size


@pytest.mark.parametrize("name", sorted(built_in_recipes().keys() - set(IMAGENET)))
def test_every_other_recipe_is_planned_for_1_8_and_1024_gpus(name, tmp_path, capsys) -> None:
    """Where its batch cannot be shared, that is said, and the next larger one is planned."""
    recipe = ["check", name]
    if name == "array":  # the data must say what samples look like
        write_arrays(tmp_path, x=np.zeros((8, 2, 8, 8), np.float32))
        recipe += [f"data.path={tmp_path / 'data.npz'}", "data.key=x"]
    elif name in ("images", "nine_cells", "nine_cells_64"):
        recipe += ["data.num_classes=3"]
    elif name.startswith("era5"):
        recipe += ["data.path=not_there.zarr"]  # and no network is asked
    for count in (1, 8, 1024):
        assert main([*recipe, "--world-size", str(count)]) == 0, capsys.readouterr().err
        shown = capsys.readouterr().out
        assert "on each GPU: fits" in shown
        assert "samples a second" in shown
        shared = load_recipe(name).train.batch_size % count == 0
        assert ("cannot be shared equally" in shown) is not shared


def test_a_plan_that_does_not_fit_says_what_would(capsys) -> None:
    keys = ["train.micro_batch_size=128", "--world-size", "8"]
    assert main(["check", "imagenet_jit_b32", *keys, "--memory-gib", "24"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "does not fit" in shown
    for cure in ("train.micro_batch_size=64", "parallel.activation_checkpoint=true"):
        assert f"with {cure}" in shown


def test_what_no_machine_has_is_refused(capsys) -> None:
    for keys, words in (
        (["--tflops", "100"], "--world-size"),
        (["--world-size", "0"], "`--world-size 0`: give a number above 0"),
        (["--world-size", "8", "--memory-gib", "-1"], "`--memory-gib -1.0`: give"),
        (["--world-size", "8", "--between", "nan"], "`--between nan`: give"),
        (["--world-size", "8", "--mfu", "40"], "at most 1"),
        (["--world-size", "8", "--mfu", "0.4", "--samples-per-second", "9"], "give one"),
        (["--world-size", "8", "--samples-per-second", "1e9"], "times its peak of 989 TFLOP/s"),
        (["--world-size", "8", "parallel.replicate=3", "parallel.shard=2"], "does not make 8"),
    ):
        assert main(["check", "demo", *keys]) == 2
        assert words in capsys.readouterr().err


def test_a_batch_that_cannot_be_shared_is_planned_with_keys_that_training_takes(capsys) -> None:
    keys = ["train.batch_size=256", "--world-size", "3"]  # with micro-batches of 128
    assert main(["check", "imagenet_jit_b16", *keys]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "planned with train.batch_size=258 train.micro_batch_size=86 (255 can" in shown
    load_recipe("imagenet_jit_b16", ["train.batch_size=258", "train.micro_batch_size=86"])


def test_the_largest_micro_batch_fits_and_the_next_one_does_not() -> None:
    plan = _plan(count=8, name="imagenet_jit_b16", memory_gib=24)
    largest = plan.with_largest_micro_batch()
    size = largest.shares.micro_batch
    assert largest.fits
    assert not plan.with_shares(Shares(128, 2 * size)).fits
    keys = f"train.micro_batch_size={size}"
    again = _plan(keys, count=8, name="imagenet_jit_b16", memory_gib=24)
    assert (again.parts, again.seconds) == (largest.parts, largest.seconds)


def test_a_measured_speed_of_one_gpu_is_the_speed_that_is_planned_for_it(capsys) -> None:
    """Also where activations are computed again: these operations are done, too."""
    for keys in ([], ["parallel.activation_checkpoint=true"]):
        plan = _plan(*keys, count=1, name="imagenet_jit_b16", samples_per_second=1000)
        assert 1024 / plan.seconds.step == pytest.approx(1000)
    keys = ["imagenet_jit_b16", "--world-size", "8", "--samples-per-second", "1000"]
    assert main(["check", *keys]) == 0
    assert "by 1000 samples a second of one GPU" in " ".join(capsys.readouterr().out.split())


def test_what_nothing_in_the_recipe_makes_fit_is_said(capsys) -> None:
    assert main(["check", "imagenet_jit_b32", "--world-size", "8", "--memory-gib", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "does not fit" in shown
    assert "larger GPUs" in shown


def test_a_recipe_that_says_nothing_of_its_samples_needs_its_data(capsys) -> None:
    assert main(["check", "images", "--world-size", "8"]) == 2
    assert "data.num_classes" in capsys.readouterr().err


def _plan(*keys: str, count: int, name: str = "imagenet_jit_g16", **machines: float) -> Plan:
    recipe = load_recipe(name, keys)
    info = recipe.data.info
    patcher = make_patcher(recipe, info, fixed(0, 1, info.shape), torch.device("cpu"))
    return make_plan(recipe, info, patcher, Machines(count, **machines))


def test_bytes_take_their_time_over_the_way_they_go() -> None:
    """8 GPUs of a machine share, 8 machines replicate; every GPU has a way out of its own."""
    plan = _plan(count=64, inside=400, between=50)
    traffic, seconds = plan.footprint.traffic, plan.seconds
    assert seconds.reduce_scatter == pytest.approx(traffic.reduce_scatter / 400e9)
    assert seconds.all_reduce == pytest.approx(traffic.all_reduce / 50e9)
    everywhere = _plan("parallel.shard=64", count=64, inside=400, between=30)
    expected = everywhere.footprint.traffic.reduce_scatter / (8 * 30e9)
    assert everywhere.seconds.reduce_scatter == pytest.approx(expected)


def test_a_step_takes_its_computing_and_the_exchange_that_does_not_hide_behind() -> None:
    """6 operations for each multiply-add: 2 forward, 4 backward; 2 more where done again."""
    plan = _plan(count=8)
    macs = plan.cost.multiply_adds * 1024 / 8
    assert plan.seconds.step == pytest.approx(6 * macs / 0.4 / 989e12)
    again = _plan("parallel.activation_checkpoint=true", count=8)
    assert again.seconds.step == pytest.approx(8 * macs / 0.4 / 989e12)
    muon = _plan("train.optimizer=muon", count=8, inside=400)
    extra = muon.muon.flops / 0.4 / 989e12 + muon.muon.sent_bytes / 400e9
    assert muon.seconds.step == pytest.approx(plan.seconds.step + extra)
    assert 1.01 * plan.seconds.step < muon.seconds.step < 1.05 * plan.seconds.step
    slow = _plan(count=8, inside=0.001).seconds
    assert slow.step > 0.99 * (slow.gather + slow.reduce_scatter)
    assert slow.not_hidden > 0.9 * slow.step


@pytest.mark.parametrize(
    ("reading", "computing", "num_workers", "share"),
    [(1.0, 3.0, 0, 0.25), (1.0, 3.0, 1, 0.0), (8.0, 1.0, 2, 0.75), (8.0, 1.0, 8, 0.0)],
)
def test_workers_read_while_the_process_computes(reading, computing, num_workers, share) -> None:
    assert share_of_waiting(reading, computing, num_workers) == share


def test_check_says_how_long_training_would_wait_for_its_data(tmp_path, capsys) -> None:
    data = write_arrays(tmp_path, x=np.zeros((40, 1, 8, 8), np.float32))
    (tmp_path / "recipe.yaml").write_text(
        f"{{run_dir: run, data: {{name: array, path: {data}}}, "
        "adapter: {name: grid, patch_size: [4, 4]}, model: {width: 32, depth: 2, heads: 2, "
        "in_context_len: 0}, train: {num_steps: 1, batch_size: 8}}"
    )
    for machines in ([], ["--world-size", "2"]):
        assert main(["check", str(tmp_path / "recipe.yaml"), *machines]) == 0
        (line,) = (s for s in capsys.readouterr().out.splitlines() if s.startswith("loading"))
        num_samples = 4 if machines else 8
        assert "% of the time" in line
        assert f"{num_samples} samples take" in line
        assert "by the training process" in line
