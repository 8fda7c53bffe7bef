"""What a recipe would do, before it is done; the published sizes, in seconds and without memory."""

import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from runs import rawdiff, write_arrays

from rawdiff.assemble import make_network, make_patcher
from rawdiff.cli import main
from rawdiff.data.statistics import fixed
from rawdiff.recipe_file import built_in_recipes, load_recipe
from rawdiff.scale import Machines, make_plan
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
        (["--world-size", "0"], "above 0"),
        (["--world-size", "8", "--mfu", "40"], "at most 1"),
        (["--world-size", "8", "parallel.replicate=3", "parallel.shard=2"], "does not make 8"),
    ):
        assert main(["check", "demo", *keys]) == 2
        assert words in capsys.readouterr().err
