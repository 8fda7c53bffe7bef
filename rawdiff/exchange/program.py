"""A model's network as one file that torch alone runs: the format `torch_export`."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rawdiff.assemble import make_network, make_patcher, materialize
from rawdiff.averages.weights import take_over
from rawdiff.data.dataset import DataInfo
from rawdiff.data.patcher import Patcher
from rawdiff.errors import UserError
from rawdiff.exchange.foreign import Format, Incoming, Outgoing
from rawdiff.files import atomic
from rawdiff.model.network import Network

FACTS = "rawdiff.json"
TOLERANCE = 1e-5
"""How far the program may be from the network, relative to the network's largest value."""

Inputs = dict[str, Tensor]


class TorchExport(Format):
    """A program of `torch.export` (.pt2): loaded and run by torch, without rawdiff, on a CPU.

    It takes and gives patches [B, N, P], as the network does, for any B from 1 on. What they mean
    stands in the file's own `rawdiff.json`: inputs, axes, mean and spread, settings of the flow.
    """

    one_set: ClassVar[bool] = True

    def read(self, path: Path) -> Incoming:
        raise UserError(
            f"{path}: a program can be run, but not trained or sampled as a model. Import what it "
            "was made of, such as the folder that `rawdiff export RUN FOLDER` writes."
        )

    def write(self, path: Path, model: Outgoing) -> None:
        cpu = torch.device("cpu")
        patcher = make_patcher(model.recipe, model.info, model.statistics, cpu)
        network = materialize(make_network(model.recipe, model.info, patcher), cpu).eval()
        take_over(network, model.read(model.names[0]), model.names[0])
        program = export_network(network, random_inputs(3, patcher, model.info))
        for num in (1, 4):
            _require_equal(program, network, random_inputs(num, patcher, model.info))
        held = io.BytesIO()
        torch.export.save(program, held, extra_files={FACTS: _facts(model, patcher)})
        with atomic(path) as file:
            file.write(held.getbuffer())


def export_network(network: Network, inputs: Inputs) -> torch.export.ExportedProgram:
    """The network as a program that takes such inputs by name, of any number of samples.

    UserError where torch cannot express it.
    """
    batch = torch.export.Dim("batch", min=1)
    shapes = {name: {0: batch} for name in inputs}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, to those who work on torch
            return torch.export.export(network, (), inputs, dynamic_shapes=shapes)
    except Exception as error:  # torch has many
        raise UserError(
            f"torch.export cannot express {type(network).__name__}: {error}. `rawdiff export RUN "
            "FOLDER` writes its weights, which rawdiff loads."
        ) from error


def random_inputs(num: int, patcher: Patcher, info: DataInfo) -> Inputs:
    """All that the network of such data is told of `num` samples; random numbers."""
    generator = torch.Generator().manual_seed(num)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(num, *sizes, generator=generator)

    N, P = patcher.grid.num_patches, patcher.patch_dim
    inputs = {"z_t": normal(N, P), "t": torch.rand(num, generator=generator)}
    if info.num_classes:
        inputs["label"] = torch.randint(info.num_classes + 1, (num,), generator=generator)
    if info.scalar_names:
        inputs["scalars"] = normal(len(info.scalar_names))
    if patcher.extra_dim:
        inputs["extra"] = normal(N, patcher.extra_dim)
    if not patcher.all_known:
        inputs["present"] = normal(N) > -1
    if info.place_names:
        inputs["positions"] = normal(N, len(patcher.grid.axes))
    return inputs


@torch.no_grad()
def _require_equal(program: torch.export.ExportedProgram, network: Network, inputs: Inputs) -> None:
    expected, found = network(**inputs), program.module()(**inputs)
    difference = float((found - expected).abs().max())
    if not difference <= TOLERANCE * float(expected.abs().max()):
        raise UserError(
            f"The program that torch {torch.__version__} makes of {type(network).__name__} is "
            f"another function: it is off by {difference:.2g} for {len(inputs['t'])} samples."
        )


def _facts(model: Outgoing, patcher: Patcher) -> str:
    """What the numbers mean that go in and come out, as JSON."""
    inputs = random_inputs(2, patcher, model.info)
    moments = model.statistics.x
    facts: dict[str, Any] = {
        "inputs": {
            name: {"shape": ["batch", *x.shape[1:]], "dtype": str(x.dtype).partition(".")[2]}
            for name, x in inputs.items()
        },
        "weights": model.names[0],
        "flow": model.recipe.flow.resolved(model.info.shape).model_dump(mode="json"),
        "adapter": model.recipe.plain()["adapter"],
        "axes": {axis.name: list(axis.positions) for axis in patcher.grid.axes},
        "shape": model.info.shape,
        "channels": model.info.channels,
        "units": model.info.units,
        "mean": moments.mean.tolist(),
        "std": moments.std.tolist(),
        "classes": model.info.class_names,
        "scalars": model.info.scalar_names,
    }
    return json.dumps(facts, indent=1)
