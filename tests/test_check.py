"""What a recipe would do, before it is done; the published sizes, in seconds and without memory."""

import resource
import subprocess
import sys

import pytest
from runs import rawdiff

from rawdiff.assemble import make_network, make_patcher
from rawdiff.data.statistics import fixed
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
    import torch

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
