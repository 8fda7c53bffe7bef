"""What is done to a network from outside does not change what it computes."""

import pytest
import torch
from torch._dynamo.utils import counters

from rawdiff.errors import UserError
from rawdiff.grid import Axis, PatchGrid
from rawdiff.model.network import DropoutKey, Interface
from rawdiff.model.transformer import Transformer, TransformerSettings
from rawdiff.parallel.apply import compiled, mesh_shape, parallelize, require_gatherable
from rawdiff.parallel.processes import ALONE, Processes
from rawdiff.parallel.settings import ParallelSettings

CPU = torch.device("cpu")


def network(depth: int) -> Transformer:
    settings = TransformerSettings(width=16, depth=depth, heads=2, in_context_len=0, dropout=0.3)
    grid = PatchGrid((Axis.regular("row", 3), Axis.regular("column", 3)))
    made = Transformer(settings, Interface(4, num_classes=3), grid)
    made.initialize(0)
    for name, parameter in made.named_parameters():
        if "modulation" in name or "last_layer" in name:  # 0 at first: nothing would pass
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    return made


def output_and_gradients(made: Transformer) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    z_t, t = torch.randn(5, 9, 4, generator=generator), torch.rand(5, generator=generator)
    key = DropoutKey(seed=3, index=torch.arange(5) + 100)
    output = made(z_t, t, torch.arange(5) % 3, dropout=key)
    output.square().sum().backward()
    return [output.detach(), *(p.grad for p in made.parameters())]


def test_recomputed_activations_give_the_same_bits() -> None:
    plain, recomputed = network(4), network(4)
    parallelize(recomputed, ParallelSettings(activation_checkpoint=True), ALONE, CPU)
    pairs = zip(output_and_gradients(plain), output_and_gradients(recomputed), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [name for name, _ in recomputed.named_parameters()] == [
        name for name, _ in plain.named_parameters()
    ]


def test_equal_blocks_are_compiled_once_and_compute_the_same() -> None:
    """Of eight blocks four have dropout, each its own."""
    plain, compiled = network(8), network(8)
    counters.clear()
    settings = ParallelSettings(compile=True, activation_checkpoint=True)
    parallelize(compiled, settings, ALONE, CPU)
    for a, b in zip(output_and_gradients(plain), output_and_gradients(compiled), strict=True):
        assert float((a - b).norm()) < 1e-4 * float(a.norm()) + 1e-6
    assert 1 <= counters["stats"]["unique_graphs"] <= 3  # two kinds of blocks, the last layer


@pytest.mark.parametrize(
    ("keys", "count", "here", "expected"),
    [
        ({}, 16, 8, (2, 8)),
        ({}, 8, 8, (1, 8)),
        ({"shard": 4}, 16, 8, (4, 4)),
        ({"replicate": 16}, 16, 8, (16, 1)),
        ({"replicate": 2, "shard": 8}, 16, 4, (2, 8)),
    ],
)
def test_processes_of_a_machine_share_and_machines_replicate(keys, count, here, expected) -> None:
    processes = Processes(count=count, count_here=here)
    assert mesh_shape(ParallelSettings(**keys), processes) == expected


def test_a_mesh_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"parallel\.replicate: 3.*does not make 16"):
        mesh_shape(ParallelSettings(replicate=3), Processes(count=16, count_here=8))


def test_weights_are_gathered_in_bfloat16_only_where_they_are_multiplied_so() -> None:
    gathers = ParallelSettings(gather_dtype="bfloat16")
    for precision, device_type in (("float32", "cuda"), ("auto", "cpu")):
        with pytest.raises(UserError, match=rf"`train\.precision: {precision}` multiplies in"):
            require_gatherable(gathers, 2, precision, device_type)
        require_gatherable(gathers, 1, precision, device_type)
        require_gatherable(ParallelSettings(), 2, precision, device_type)
    require_gatherable(gathers, 2, "auto", "cuda")
    require_gatherable(gathers, 2, "bfloat16", "cpu")


def test_compiled_code_takes_as_many_shapes_as_there_are() -> None:
    double = compiled(lambda x: 2 * x)
    for count in range(2, 12):  # torch's own limit is 8
        assert torch.equal(double(torch.ones(count)), torch.full((count,), 2.0))
