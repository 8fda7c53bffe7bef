"""The network, loss and samplers of the paper, against data recorded from its published code.

All through an import of the published checkpoint: what a user samples and trains further with.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference import load_io, load_recorded
from torch import Tensor

from rawdiff import philox
from rawdiff.conditions import Conditions
from rawdiff.flow import loss as flow_loss
from rawdiff.grid import patchify


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def recorded(shared: Path):
    folder = shared / "reference" / "jit_tiny"
    model, config = load_recorded(folder)
    return model, config, load_io(folder)


def test_an_import_has_the_recorded_settings(recorded) -> None:
    model, config, _ = recorded
    sample, flow = model.recipe.sample, model.recipe.flow
    assert (sample.cfg_scale, list(sample.cfg_interval)) == (
        config["cfg_scale"],
        config["cfg_interval"],
    )
    assert (sample.num_steps, sample.t_eps) == (config["num_steps"], config["t_eps"])
    assert (flow.noise_scale, flow.t_eps) == (config["noise_scale"], config["t_eps"])


def test_forward_agrees_with_the_published_network(recorded) -> None:
    model, _, io = recorded
    x_pred = model.predict(io["forward.z_t"], io["forward.t"].flatten(), io["forward.label"])
    assert relative_error(x_pred, io["forward.x_pred"]) < 1e-5


@torch.no_grad()
def test_loss_agrees_with_the_published_loss(recorded) -> None:
    model, config, io = recorded
    p = (config["patch_size"],) * 2
    noised = flow_loss.interpolate(
        patchify(io["loss.x"], p), patchify(io["loss.eps"], p), io["loss.t"].flatten()
    )
    output = model.sampler.network(noised.z_t, noised.t, io["loss.label"])
    value = flow_loss.squared_error(output, noised, model.recipe.flow).mean()
    assert relative_error(value, io["loss.value"]) < 1e-5


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_samples_agree_with_the_published_sampler(recorded, solver, monkeypatch) -> None:
    """The recorded noise takes the place of our own; pixels come back to -1 to 1, unclipped."""
    model, config, io = recorded
    z_0 = patchify(io["sample.z_0"], (config["patch_size"],) * 2)
    monkeypatch.setattr(philox, "normal", lambda *args: z_0.flatten(1) / config["noise_scale"])
    sampler = replace(model.sampler, info=replace(model.sampler.info, value_range=None))
    settings = model.recipe.sample.model_copy(update={"solver": solver})
    x = sampler.draw(torch.arange(len(z_0)), Conditions(io["sample.label"]), settings)
    assert relative_error(x / 127.5 - 1, io[f"sample.{solver}.x"]) < 1e-4
