"""Started by torchrun: steps of Muon on a sharded network and on a whole one, side by side.

Writes relative differences of weights and momentum by name, as JSON, into a folder. Nothing can be
cut equally: 3 matrices of 7 rows by 2 processes, one that is made of 3, one of a single row.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from rawdiff.grid import Axis, PatchGrid
from rawdiff.model.network import Interface, Network
from rawdiff.parallel.apply import parallelize, whole
from rawdiff.parallel.launch import leave
from rawdiff.parallel.processes import join_processes
from rawdiff.parallel.settings import ParallelSettings
from rawdiff.recipe import TrainSettings
from rawdiff.train.optimizer import make_optimizer, take_step

TRAIN = TrainSettings(num_steps=1, batch_size=1, optimizer="muon", weight_decay=0.1)
SHAPES = [(7, 5), (7, 5), (7, 5), (9, 4), (1, 6)]


class Odd(Network):
    def __init__(self) -> None:
        super().__init__(Interface(1), PatchGrid((Axis.regular("row", 1),)))
        self.matrices = nn.ParameterList(nn.Parameter(torch.empty(shape)) for shape in SHAPES)
        self.input = nn.Parameter(torch.empty(3, 3))
        self.initialize(0)

    def forward(self, z_t, t, label=None, **known):
        raise NotImplementedError

    def initialize(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    @property
    def hidden_matrices(self):
        return {p: 3 if len(p) == 9 else 1 for p in self.matrices}


def give_gradients(network: Network, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in network.parameters():
        gradient = torch.randn(p.shape, generator=generator)
        if isinstance(p, DTensor):
            gradient = distribute_tensor(gradient, p.device_mesh, p.placements)
        p.grad = gradient


def main(folder: Path) -> None:
    with join_processes(on_gpu=False) as processes:
        alone, shared = Odd(), Odd()
        parallelize(shared, ParallelSettings(), processes, torch.device("cpu"))
        optimizers = [make_optimizer(network, TRAIN) for network in (alone, shared)]
        for step in range(5):
            for network, optimizer in zip((alone, shared), optimizers, strict=True):
                give_gradients(network, step)
                take_step(optimizer, torch.tensor(step != 3))
        found = {}
        for (name, a), b in zip(alone.named_parameters(), shared.parameters(), strict=True):
            before = dict(Odd().named_parameters())[name]
            found[name] = relative(a - before, whole(b.detach()) - before)
            for moment, tensor in optimizers[0].state[a].items():
                found[f"{name}.{moment}"] = relative(tensor, whole(optimizers[1].state[b][moment]))
    if processes.is_first:
        (folder / "differences.json").write_text(json.dumps(found))


def relative(expected, found) -> float:
    return float((found - expected).norm() / expected.norm())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave(0)
