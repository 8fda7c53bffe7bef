"""What is planned is what a cut network holds and sends, counted where torch does it."""

import json
from pathlib import Path

import pytest
import torch
from processes import torchrun
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode

from rawdiff.assemble import Data, make_network, make_patcher, materialize
from rawdiff.bench.synthetic import Synthetic
from rawdiff.data.dataset import collate
from rawdiff.data.loading import Subset
from rawdiff.data.statistics import fixed
from rawdiff.errors import UserError
from rawdiff.parallel.apply import add_gradients_up, mesh_shape, parallelize
from rawdiff.parallel.batch import Shares, share_batch
from rawdiff.parallel.footprint import measure_footprint
from rawdiff.parallel.pretend import pretend_processes
from rawdiff.parallel.processes import ALONE
from rawdiff.recipe_file import load_recipe
from rawdiff.train.batch_memory import measure_batch
from rawdiff.train.cost import run_on_nothing
from rawdiff.train.memory import Activations, measure_activations, memory_parts
from rawdiff.train.setup import set_up

# Neither width nor classes can be cut equally by 4 or 8.
SMALL = ["model.depth=3", "model.width=36", "model.heads=2", "model.in_context_start=1"]
CPU = torch.device("cpu")


class Sent(TorchDispatchMode):
    """Bytes that each kind of collective makes whole, as torch calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = {"allgather": 0, "reduce_scatter": 0, "allreduce": 0}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for name in self.num_bytes:
            if func.namespace == "c10d" and func.__name__.startswith((name, f"_{name}")):
                # The input of a sum, the output of a gathering: first either way round.
                tensors = args[1] if name == "reduce_scatter" else args[0]
                for tensor in tensors if isinstance(tensors, list | tuple) else [tensors]:
                    self.num_bytes[name] += tensor.nbytes
        return func(*args, **(kwargs or {}))


def _network(recipe):
    info = recipe.data.info
    return make_network(recipe, info, make_patcher(recipe, info, fixed(0, 1, info.shape), CPU))


@pytest.mark.parametrize(
    ("count", "here", "keys"),
    [
        (8, 4, []),
        (8, 4, ["parallel.reshard_after_forward=true"]),
        (8, 4, ["parallel.gather_dtype=bfloat16", "train.precision=bfloat16"]),
        (4, 4, []),
        (8, 8, ["parallel.shard=1"]),
    ],
)
def test_a_step_sends_what_was_planned(count, here, keys) -> None:
    recipe = load_recipe("demo", [*SMALL, *keys])
    with pretend_processes(count, here) as processes:
        network = materialize(_network(recipe), CPU)
        network.initialize(0)
        parallelize(network, recipe.parallel, processes, CPU)
        shape = replicate, shard = mesh_shape(recipe.parallel, processes)
        footprint = measure_footprint(network, recipe.parallel, shape)
        with Sent() as sent:
            for i in range(2):
                add_gradients_up(network, recipe.parallel, now=i == 1)
                bfloat16 = recipe.train.precision == "bfloat16"
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    output = run_on_nothing(network, 4, CPU)
                output.square().sum().backward()
    ring, traffic = (shard - 1) / shard, footprint.traffic
    gathered = footprint.num_gatherings(2) * (traffic.gather_forward + traffic.gather_backward)
    assert sent.num_bytes["allgather"] * ring == gathered
    assert sent.num_bytes["reduce_scatter"] * ring == traffic.reduce_scatter
    assert sent.num_bytes["allreduce"] * 2 * (replicate - 1) / replicate == pytest.approx(
        traffic.all_reduce
    )


@pytest.mark.parametrize("num_micro_batches", [1, 2])
@pytest.mark.parametrize("reshard", ["false", "true"])
def test_a_step_holds_what_was_planned(num_micro_batches, reshard) -> None:
    """torch's own tracker, with the published network B on 8 processes without memory."""
    recipe = load_recipe("imagenet_jit_b32", [f"parallel.reshard_after_forward={reshard}"])
    network, size = _network(recipe), 4
    activations = measure_activations(network, bfloat16=False)
    with pretend_processes(8, 8) as processes:
        parallelize(network, recipe.parallel, processes, CPU)
        footprint = measure_footprint(network, recipe.parallel, (1, 8))
        shares = Shares(size * num_micro_batches, size)
        parts = memory_parts(network, footprint, recipe.train, activations, shares)
        with FakeTensorMode(allow_non_fake_inputs=True):
            network.to_empty(device="cpu")
            tracker = FSDPMemTracker(network)
            with tracker:
                for i in range(num_micro_batches):
                    add_gradients_up(network, recipe.parallel, now=i == num_micro_batches - 1)
                    loss = run_on_nothing(network, size, CPU).square().sum()
                    loss.backward()
                    if i < num_micro_batches - 1:
                        tracker.reset_mod_stats()
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    found = {getattr(kind, "name", kind): size for kind, size in peak.items()}
    assert found["SHARDED_PARAM"] == parts["weights"]
    assert found["UNSHARDED_GRAD"] == parts.get("gradients before they are summed", 0)
    assert found["ALL_GATHER"] == parts.get("gather buffer", 0)
    assert found["UNSHARDED_PARAM"] == parts["gathered weights"]
    kept = [name for name in parts if name.startswith("average")] + ["gradients", "optimizer"]
    planned = sum(parts.values()) - sum(parts[name] for name in kept)
    assert found["Total"] == pytest.approx(planned, rel=0.05)


def test_two_real_processes_hold_what_was_planned(tmp_path) -> None:
    """To the byte: weights, gradients, moments and averages of a run started by torchrun."""
    script = Path(__file__).with_name("count_state.py")
    done = torchrun(2, tmp_path, *SMALL, script=script)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "state.json").read_text())
    recipe = load_recipe("demo", SMALL)
    network = _network(recipe)
    with pretend_processes(2, 2) as processes:
        parallelize(network, recipe.parallel, processes, CPU)
        footprint = measure_footprint(network, recipe.parallel, (1, 2))
        parts = memory_parts(network, footprint, recipe.train, Activations(0, 0), Shares(8, 8))
    assert found == {name: parts[name] for name in found}
    assert len(found) == 4


@pytest.mark.parametrize("keys", [[], ["parallel.activation_checkpoint=true"]])
def test_real_samples_their_noise_and_loss_take_what_was_planned(keys) -> None:
    """torch's own tracker, in a real pass over patches of so many values that they weigh most."""
    keys = [*SMALL, *keys, "data.size=256", "adapter.patch_size=64", "train.device=cpu"]
    recipe, size = load_recipe("imagenet_jit_b64", keys), 4
    info = recipe.data.info
    data, statistics = Subset(Synthetic.like(info), range(size)), fixed(127.5, 127.5, info.shape)
    bfloat16 = {"precision": "bfloat16", "batch_size": size, "micro_batch_size": size}
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=bfloat16)})
    training = set_up(
        recipe, Data(data, None), statistics, CPU, ALONE, lambda new: new.initialize(0)
    )
    batch = collate(data.get_batch(range(size)), range(size))
    tracker = MemTracker()
    tracker.track_external(training.state.network)
    with tracker:
        training.compute_gradients(batch)
    (found,) = (sum(kinds.values()) // 2 for kinds in [tracker.get_tracker_snapshot("peak")[CPU]])
    patcher, network = training.objective.patcher, _network(recipe)
    recomputes = recipe.parallel.activation_checkpoint
    activations = measure_activations(network, bfloat16=True, recomputes=recomputes)
    samples = measure_batch(recipe, info, patcher)
    footprint = measure_footprint(network, recipe.parallel, (1, 1))
    shares = Shares(size, size)
    parts = memory_parts(network, footprint, recipe.train, activations, shares, samples)
    planned = sum(parts[name] for name in ("weights", "tables", "activations", "batch and loss"))
    assert 0.95 * planned < found < planned + parts["gradients"]
    assert parts["batch and loss"] > 0.5 * (planned - parts["weights"])


def test_more_samples_and_less_recomputing_keep_more() -> None:
    network = _network(load_recipe("demo", ["model.depth=8"]))
    kept, recomputed = (
        measure_activations(network, bfloat16=False, recomputes=recomputes)
        for recomputes in (False, True)
    )
    assert kept(2) - kept(1) == kept(5) - kept(4) > 0
    assert 0 < recomputed.a_sample < kept.a_sample / 2


def test_a_batch_that_cannot_be_shared_says_which_can() -> None:
    with pytest.raises(UserError, match="use 66 or 63"):
        share_batch(64, None, 3)
    assert share_batch(64, 16, 2) == Shares(32, 16)
    assert share_batch(64, 48, 2) == Shares(32, 32)
    assert Shares(32, 24).num_micro_batches == 2
