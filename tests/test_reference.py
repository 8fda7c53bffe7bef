"""The network, loss and samplers of the paper, against data recorded from its published code."""

from pathlib import Path

import pytest
import torch
from reference import load_io, load_recorded
from torch import Tensor

from rawdiff.flow import loss as flow_loss
from rawdiff.flow.guidance import guided
from rawdiff.flow.prediction import v_from
from rawdiff.flow.settings import FlowSettings
from rawdiff.flow.solvers import SOLVERS, time_grid
from rawdiff.grid import patchify, unpatchify


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def recorded(shared: Path):
    folder = shared / "reference" / "jit_tiny"
    model, config = load_recorded(folder)
    return model, config, load_io(folder)


@torch.no_grad()
def test_forward_agrees_with_the_published_network(recorded) -> None:
    model, config, io = recorded
    p = (config["patch_size"],) * 2
    x_pred = model(patchify(io["forward.z_t"], p), io["forward.t"].flatten(), io["forward.label"])
    expected = io["forward.x_pred"]
    assert relative_error(unpatchify(x_pred, expected.shape[2:], p), expected) < 1e-5


@torch.no_grad()
def test_loss_agrees_with_the_published_loss(recorded) -> None:
    model, config, io = recorded
    flow = FlowSettings(t_eps=config["t_eps"])
    p = (config["patch_size"],) * 2
    noised = flow_loss.interpolate(
        patchify(io["loss.x"], p), patchify(io["loss.eps"], p), io["loss.t"].flatten()
    )
    output = model(noised.z_t, noised.t, io["loss.label"])
    value = flow_loss.squared_error(output, noised, flow).mean()
    assert relative_error(value, io["loss.value"]) < 1e-5


@pytest.mark.parametrize("solver", ["euler", "heun"])
@torch.no_grad()
def test_samples_agree_with_the_published_sampler(recorded, solver) -> None:
    model, config, io = recorded
    p = (config["patch_size"],) * 2

    def velocity(z: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return v_from(model(z, t, label), "x", z, t, config["t_eps"])

    v = guided(
        velocity,
        io["sample.label"],
        config["num_classes"],
        cfg_scale=config["cfg_scale"],
        cfg_interval=tuple(config["cfg_interval"]),
    )
    x = SOLVERS[solver](v, patchify(io["sample.z_0"], p), time_grid(config["num_steps"]))
    expected = io[f"sample.{solver}.x"]
    assert relative_error(unpatchify(x, expected.shape[2:], p), expected) < 1e-4
