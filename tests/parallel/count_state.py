"""Started by torchrun: one step, then the bytes of this process's state as JSON in a folder."""

import json
import sys
from pathlib import Path

import torch

from rawdiff.assemble import make_network, make_patcher, materialize
from rawdiff.data.statistics import fixed
from rawdiff.parallel.apply import local, parallelize
from rawdiff.parallel.launch import leave
from rawdiff.parallel.processes import join_processes
from rawdiff.recipe_file import load_recipe
from rawdiff.train.cost import run_on_nothing
from rawdiff.train.state import TrainState


def main(folder: Path, *overrides: str) -> None:
    recipe, device = load_recipe("demo", overrides), torch.device("cpu")
    info = recipe.data.info
    patcher = make_patcher(recipe, info, fixed(0, 1, info.shape), device)
    with join_processes(on_gpu=False) as processes:
        network = materialize(make_network(recipe, info, patcher), device)
        network.initialize(0)
        parallelize(network, recipe.parallel, processes, device)
        state = TrainState(recipe, network)
        run_on_nothing(network, 4, device).square().sum().backward()
        num_bytes = {"gradients": _bytes([p.grad for p in network.parameters()])}
        state.update(torch.tensor(True))
        moments = state.optimizer.state.values()
        num_bytes |= {
            "weights": _bytes(network.parameters()),
            "optimizer": _bytes(m[name] for m in moments for name in ("exp_avg", "exp_avg_sq")),
            "average power_0.1": _bytes(state.emas[0].weights.values()),
        }
    if processes.is_first:
        (folder / "state.json").write_text(json.dumps(num_bytes))


def _bytes(tensors) -> int:
    return sum(local(tensor.detach()).nbytes for tensor in tensors)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
    leave(0)
