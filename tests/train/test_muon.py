"""Muon moves the matrices between hidden layers, AdamW all others."""

import pytest
import torch
from rawdiff_toy.mlp import MLPSettings
from runs import differences, random_recipe
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rawdiff.cli.main import main
from rawdiff.errors import UserError
from rawdiff.grid import Axis, PatchGrid
from rawdiff.model.network import Interface, Network
from rawdiff.model.transformer import Transformer, TransformerSettings
from rawdiff.parallel.apply import parallelize
from rawdiff.parallel.pretend import pretend_processes
from rawdiff.parallel.settings import ParallelSettings
from rawdiff.recipe import TrainSettings
from rawdiff.train.muon import Muon, orthogonalize
from rawdiff.train.optimizer import MuonCost, make_optimizer, muon_cost, num_moments, take_step

TRAIN = TrainSettings(
    num_steps=1, batch_size=1, learning_rate=0.01, optimizer="muon", weight_decay=0.1
)
GRID = PatchGrid((Axis.regular("row", 3),))
TAKEN = torch.tensor(True)


def transformer(**settings) -> Transformer:
    small = TransformerSettings(
        width=16, depth=2, heads=2, in_context_start=1, class_head=1, **settings
    )
    made = Transformer(small, Interface(4, num_classes=3, num_scalars=2), GRID)
    made.initialize(0)
    return made


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def give_gradients(network: Network) -> None:
    for i, p in enumerate(network.parameters()):
        p.grad = random(*p.shape, seed=i)


def parts_of(optimizer: Muon, network: Network) -> dict[str, int]:
    """How many matrices each weight that Muon moves is made of, by the weight's name."""
    names = {p: name for name, p in network.named_parameters()}
    groups = optimizer.param_groups
    assert {p for group in groups for p in group["params"]} == names.keys()
    return {names[p]: group["parts"] for group in groups for p in group["params"] if group["parts"]}


def test_muon_moves_the_matrices_of_attention_and_mlp_and_nothing_else() -> None:
    network = transformer()
    expected = {"attn.qkv": 3, "attn.proj": 1, "mlp.w12": 2, "mlp.w3": 1}
    assert parts_of(make_optimizer(network, TRAIN), network) == {
        f"blocks.{i}.{name}.weight": parts for i in range(2) for name, parts in expected.items()
    }
    plain = transformer(swiglu=False)
    moved = parts_of(make_optimizer(plain, TRAIN), plain)
    assert {"blocks.1.mlp.w1.weight": 1, "blocks.1.mlp.w2.weight": 1}.items() <= moved.items()
    mlp = MLPSettings(width=8, depth=3).build(Interface(4), GRID)
    assert parts_of(make_optimizer(mlp, TRAIN), mlp) == {"layers.1.weight": 1}


def test_a_network_that_names_no_hidden_matrices_or_wrong_ones_is_told_so(monkeypatch) -> None:
    network = transformer()
    for named, message in (
        ({}, "Transformer names none"),
        ({network.blocks[0].attn.proj.weight: 3}, r"\[16, 16\] as 3 matrices"),
        ({network.blocks[0].attn.proj.bias: 1}, r"\[16\] as 1 matrices"),
    ):
        monkeypatch.setattr(Transformer, "hidden_matrices", named)
        with pytest.raises(UserError, match=message):
            make_optimizer(network, TRAIN)
        make_optimizer(network, TRAIN.model_copy(update={"optimizer": "adamw"}))


@pytest.mark.parametrize("shape", [(2, 48, 48), (2, 80, 48), (1, 48, 200)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape) -> None:
    u, _, v = torch.linalg.svd(random(*shape), full_matrices=False)
    spread = torch.linspace(1, 0.05, u.shape[-1])
    found = orthogonalize(1e3 * (u * spread) @ v)
    singular = torch.linalg.svdvals(found)
    assert singular.min() > 0.6
    assert singular.max() < 1.3
    assert torch.dist(found, u @ v) < 0.3 * torch.linalg.norm(u @ v)
    assert not orthogonalize(torch.zeros(1, 3, 4)).any()


def test_each_part_of_a_fused_matrix_is_orthogonalized_by_itself() -> None:
    """q, k and v move as three weights would; as one, they would move otherwise."""

    def moved(parts: int, weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
        parameters = [nn.Parameter(weight.clone()) for weight in weights]
        groups = [{"params": parameters, "weight_decay": 0.1, "parts": parts}]
        muon = Muon(groups, lr=0.01, betas=(0.9, 0.95), dtype=torch.float32)
        for _ in range(3):
            for p, gradient in zip(parameters, gradients, strict=True):
                p.grad = gradient
            take_step(muon, TAKEN)
        return torch.cat([p.detach() for p in parameters])

    weights = [random(8, 8, seed=i) for i in range(3)]
    gradients = [size * random(8, 8, seed=3 + i) for i, size in enumerate((1.0, 10.0, 0.1))]
    weight, gradient = torch.cat(weights), torch.cat(gradients)
    apart = moved(1, weights, gradients)
    assert torch.allclose(moved(3, [weight], [gradient]), apart, atol=1e-6)
    assert not torch.allclose(moved(1, [weight], [gradient]), apart, atol=1e-3)


def test_whole_matrices_move_as_by_the_muon_of_torch() -> None:
    """With its learning rate matched to AdamW's, and products in bfloat16."""
    weights = [random(12, 20), random(12, 20, seed=1), random(20, 12, seed=2)]
    ours, theirs = ([nn.Parameter(weight.clone()) for weight in weights] for _ in range(2))
    groups = [{"params": same, "weight_decay": 0.1, "parts": 1} for same in (ours[:2], ours[2:])]
    optimizers = (
        Muon(groups, lr=0.01, betas=(0.9, 0.95), dtype=torch.bfloat16),
        torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(5):
        for optimizer, parameters in zip(optimizers, (ours, theirs), strict=True):
            for i, p in enumerate(parameters):
                p.grad = random(*p.shape, seed=10 * step + i)
            optimizer.step()
    for a, b, before in zip(ours, theirs, weights, strict=True):
        assert (a - b).norm() < 0.02 * (b - before).norm()


def test_the_rest_moves_as_by_adamw_and_every_moment_is_counted() -> None:
    networks = [transformer(), transformer()]
    settings = [TRAIN, TRAIN.model_copy(update={"optimizer": "adamw"})]
    for network, train in zip(networks, settings, strict=True):
        optimizer = make_optimizer(network, train)
        for _ in range(2):
            give_gradients(network)
            take_step(optimizer, TAKEN)
        moments = [m for state in optimizer.state.values() for m in state.values() if m.dim()]
        assert num_moments(network, train) == sum(moment.numel() for moment in moments)
    first, second = (dict(network.named_parameters()) for network in networks)
    for name, p in first.items():
        assert torch.equal(p, second[name]) == (p not in networks[0].hidden_matrices), name


def test_a_step_computes_and_sends_what_was_planned(monkeypatch) -> None:
    """On one process, and on the first of 3, which owns most; here in float32, not in bfloat16."""
    alone, shared, sent = transformer(), transformer(), []

    def count(received: Tensor, sending: Tensor, group: object) -> None:
        sent.append(sending.nbytes * 2 // 3)  # a third is its own
        received.zero_()

    monkeypatch.setattr(torch.distributed, "all_to_all_single", count)
    with pretend_processes(3, 3) as processes:
        parallelize(shared, ParallelSettings(), processes, torch.device("cpu"))
        for network, num_sharing in ((alone, 1), (shared, 3)):
            optimizer = make_optimizer(network, TRAIN)
            for p in network.parameters():
                p.grad = torch.zeros_like(p)
            with FlopCounterMode(display=False) as counter:
                take_step(optimizer, TAKEN)
            cost = muon_cost(network, TRAIN, num_sharing)
            assert counter.get_total_flops() == cost.flops > 0
            assert sum(sent) == 2 * cost.sent_bytes
        assert sent
    assert muon_cost(alone, TRAIN.model_copy(update={"optimizer": "adamw"}), 1) == MuonCost()


def test_a_run_with_muon_goes_on_bit_for_bit_and_not_with_another_optimizer(
    tmp_path, capsys
) -> None:
    recipe = random_recipe(tmp_path, train={"optimizer": "muon", "num_steps": 12})
    whole, stopped = (f"run_dir={tmp_path / name}" for name in ("whole", "stopped"))
    assert main(["train", str(recipe), whole]) == 0
    assert main(["train", str(recipe), stopped, "train.num_steps=7"]) == 0
    assert main(["train", str(recipe), stopped, "train.optimizer=adamw"]) == 2
    assert "train.optimizer: 'muon' there, 'adamw' now" in capsys.readouterr().err
    assert main(["train", str(recipe), stopped]) == 0
    assert differences(tmp_path / "stopped", tmp_path / "whole", 12) == []
