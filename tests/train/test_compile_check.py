"""A run that is compiled stops before its first step if the compiler made another function."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from runs import checkpoint_tensors, small_recipe, write_arrays

import rawdiff
from rawdiff import results
from rawdiff.errors import UserError
from rawdiff.parallel import apply
from rawdiff.recipe_file import load_recipe
from rawdiff.train import objective
from rawdiff.train.start import train


def run(folder, **parallel):
    x = np.random.default_rng(0).normal(size=(32, 1, 8, 8)).astype(np.float32)
    path = small_recipe(
        folder, write_arrays(folder, x=x), [4, 4], train={"num_steps": 2}, parallel=parallel
    )
    return train(load_recipe(path), say=lambda text: None)


def by_backend(monkeypatch, backend: Callable[..., Any]) -> None:
    def compiled(function):
        return torch.compile(function, backend=backend, fullgraph=True, dynamic=False)

    for module in (apply, objective):
        monkeypatch.setattr(module, "compiled", compiled)


def changed(change: Callable[[torch.Tensor], torch.Tensor]):
    """A compiler whose code has other outputs."""

    def backend(graph, inputs):
        return lambda *args: tuple(
            change(out) if isinstance(out, torch.Tensor) and out.is_floating_point() else out
            for out in graph(*args)
        )

    return backend


def larger(out: torch.Tensor) -> torch.Tensor:
    return 1.01 * out


def steeper(out: torch.Tensor) -> torch.Tensor:
    """The same values with other gradients."""
    return 1.01 * out - 0.01 * out.detach()


@pytest.mark.parametrize("change", [larger, steeper])
def test_wrong_values_or_gradients_of_compiled_code_end_a_run(tmp_path, monkeypatch, change):
    by_backend(monkeypatch, changed(change))
    with pytest.raises(UserError, match=r"another function.*`parallel\.compile: false`"):
        run(tmp_path, compile=True)


def test_a_compiler_that_fails_is_named_with_the_cure(tmp_path, monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no C++ compiler")

    by_backend(monkeypatch, backend)
    with pytest.raises(UserError, match=r"no C\+\+ compiler.*`parallel\.compile: false`"):
        run(tmp_path, compile=True)


def test_the_check_leaves_the_state_as_it_was(tmp_path, monkeypatch):
    """Compiled by a compiler that changes nothing, a run has the bits of one without."""
    folders = [tmp_path / name for name in ("plain", "compiled")]
    for folder in folders:
        folder.mkdir()
    plain = run(folders[0], compile=False)
    by_backend(monkeypatch, changed(lambda out: out))
    compiled = run(folders[1], compile=True)
    expected, found = (checkpoint_tensors(run.path, 2) for run in (plain, compiled))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_compiled_model_draws_the_same_samples(tmp_path):
    folder = run(tmp_path, compile=False).path
    plain = rawdiff.load(folder).sample(4)
    results.sample_run(folder, ["sample.compile=true", "sample.num_samples=4"], say=print)
    with np.load(next((folder / "samples").glob("*.npz"))) as drawn:
        assert np.abs(drawn["x"] - plain.numpy()).max() < 1e-4
    with pytest.raises(UserError, match="settled when a model is loaded"):
        rawdiff.load(folder).sample(4, compile=True)
