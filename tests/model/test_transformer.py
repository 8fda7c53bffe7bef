"""The network: its switches, conditions and masks; its sizes; its dropout."""

import pytest
import torch

from rawdiff import philox
from rawdiff.grid import Axis, PatchGrid
from rawdiff.model.initialize import initialize
from rawdiff.model.layers import Dropout, DropoutKey
from rawdiff.model.network import Interface
from rawdiff.model.transformer import Transformer, TransformerSettings

GRID = PatchGrid((Axis.regular("time", 3), Axis.regular("row", 2), Axis.regular("column", 2)))
SMALL = {"width": 32, "depth": 4, "heads": 2, "bottleneck": 8, "in_context_len": 3}


def make(interface: Interface, **changes) -> Transformer:
    model = Transformer(TransformerSettings(**(SMALL | changes)), interface, GRID)
    initialize(model, seed=0)
    with torch.no_grad():  # away from the zeros that hide what a part does
        for i, parameter in enumerate(model.parameters()):
            index = torch.tensor([i])
            values = philox.normal(1, 99, index, parameter.numel())
            parameter += 0.05 * values.view_as(parameter)
    return model.eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bottleneck": None},
        {"in_context_len": 0},
        {"swiglu": False},
        {"rmsnorm": False},
        {"qk_norm": False},
        {"rope": False},
        {"position_table": False},
        {"adaln": False},
        {"swiglu_multiple": 1},
    ],
)
def test_every_part_can_be_switched_and_gradients_reach_all_weights(changes) -> None:
    model = make(Interface(5, num_classes=3), **changes)
    z = torch.randn(2, GRID.num_patches, 5)
    out = model(z, torch.tensor([0.2, 0.9]), torch.tensor([0, 3]))
    assert out.shape == z.shape
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    if changes:
        assert not torch.allclose(
            out,
            make(Interface(5, num_classes=3))(z, torch.tensor([0.2, 0.9]), torch.tensor([0, 3])),
        )


def test_time_label_scalars_and_context_each_change_the_output() -> None:
    model = make(Interface(4, extra_dim=2, num_classes=3, num_scalars=2))
    z = torch.randn(1, GRID.num_patches, 4)
    given = {
        "t": torch.tensor([0.5]),
        "label": torch.tensor([1]),
        "scalars": torch.tensor([[0.0, 0.0]]),
        "extra": torch.randn(1, GRID.num_patches, 2),
    }
    changed = {
        "t": torch.tensor([0.6]),
        "label": torch.tensor([2]),
        "scalars": torch.tensor([[0.0, torch.nan]]),
        "extra": given["extra"] + 1,
    }
    out = model(z, **given)
    assert out.isfinite().all()
    for name, value in changed.items():
        assert not torch.allclose(model(z, **(given | {name: value})), out), name


def test_no_label_is_the_last_row() -> None:
    model = make(Interface(4, num_classes=3))
    z, t = torch.randn(1, GRID.num_patches, 4), torch.tensor([0.5])
    assert torch.equal(model(z, t), model(z, t, torch.tensor([3])))
    assert not torch.allclose(model(z, t), model(z, t, torch.tensor([0])))


def test_patches_that_are_not_there_have_no_influence() -> None:
    model = make(Interface(4))
    z, t = torch.randn(2, GRID.num_patches, 4), torch.tensor([0.5, 0.5])
    present = torch.ones(2, GRID.num_patches, dtype=torch.bool)
    present[:, 7:] = False
    other = z.clone()
    other[:, 7:] = 100
    out, out_other = model(z, t, present=present), model(other, t, present=present)
    assert torch.allclose(out[:, :7], out_other[:, :7], atol=1e-5)
    assert not torch.allclose(out[:, :7], model(other, t)[:, :7], atol=1e-2)


def test_positions_given_for_each_sample_replace_the_grid() -> None:
    model = make(Interface(4))
    z, t = torch.randn(2, GRID.num_patches, 4), torch.tensor([0.5, 0.5])
    own = GRID.positions()
    out = model(z, t)
    assert torch.allclose(model(z, t, positions=own.expand(2, -1, -1)), out, atol=1e-5)
    moved = torch.stack((own, own * 2))
    again = model(z, t, positions=moved)
    assert torch.allclose(again[0], out[0], atol=1e-5)
    assert not torch.allclose(again[1], out[1], atol=1e-3)


def test_first_output_is_zero_and_weights_follow_the_published_law() -> None:
    model = Transformer(TransformerSettings(**SMALL), Interface(4, num_classes=2), GRID)
    initialize(model, seed=5)
    assert not model(torch.randn(1, 12, 4), torch.tensor([0.5])).any()
    weight = model.blocks[0].attn.qkv.weight.detach()
    bound = (6 / (32 + 96)) ** 0.5
    assert bound * 0.99 < float(weight.abs().max()) <= bound
    assert abs(float(model.in_context.detach().std()) - 0.02) < 0.005
    again = Transformer(TransformerSettings(**SMALL), Interface(4, num_classes=2), GRID)
    initialize(again, seed=5)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_dropout_is_a_function_of_the_sample_not_of_the_batch() -> None:
    dropout, x = Dropout(0.25, place=1), torch.ones(6, 40, 50)
    index = torch.arange(10, 16)
    whole = dropout(x, DropoutKey(1, index))
    parts = [dropout(x[i : i + 2], DropoutKey(1, index[i : i + 2])) for i in (0, 2, 4)]
    assert torch.equal(whole, torch.cat(parts))
    assert abs(float((whole == 0).float().mean()) - 0.25) < 0.02
    assert float(whole.max()) == pytest.approx(1 / 0.75)
    assert not torch.equal(whole, dropout(x, DropoutKey(1, index).of_layer(1)))
    assert torch.equal(dropout(x, None), x)


def test_dropout_acts_in_the_middle_half_of_the_blocks() -> None:
    model = make(Interface(4), depth=8, dropout=0.2)
    active = [block.drop1.p > 0 for block in model.blocks]
    assert active == [False, False, True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("size", "mlp_width"), [("B", 2048), ("L", 2730), ("H", 3413), ("G", 4437)]
)
def test_sizes_have_the_published_mlp_width(size, mlp_width) -> None:
    assert TransformerSettings(size=size, swiglu_multiple=1).mlp_width == mlp_width
    assert TransformerSettings(size=size).mlp_width % 64 == 0
