"""The auxiliary class head: it reads the class, and nothing before it is told."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from rawdiff.errors import UserError
from rawdiff.grid import Axis, PatchGrid
from rawdiff.model.network import Interface
from rawdiff.model.transformer import Transformer, TransformerSettings

GRID = PatchGrid((Axis.regular("row", 3),))
SMALL = {"width": 16, "depth": 4, "heads": 2, "in_context_len": 2, "in_context_start": 2}


def make(**changes) -> Transformer:
    settings = TransformerSettings(**(SMALL | {"class_head": 2} | changes))
    network = Transformer(settings, Interface(5, num_classes=3), GRID)
    network.initialize(0)
    with torch.no_grad():
        for parameter in network.parameters():  # zero layers would hide what they are told
            parameter += 0.1 * torch.randn_like(parameter)
    return network


def test_the_head_is_not_told_the_label_but_the_output_is() -> None:
    torch.manual_seed(0)
    network, z, t = make(), torch.randn(2, 3, 5), torch.tensor([0.3, 0.6])
    output, logits = network(z, t, torch.tensor([0, 1]), class_logits=True)
    other, same = network(z, t, torch.tensor([2, 2]), class_logits=True)
    assert logits.shape == (2, 3)
    assert torch.equal(logits, same)
    assert not torch.allclose(output, other)
    assert torch.equal(network(z, t, torch.tensor([0, 1])), output)


def test_the_head_trains_the_blocks_before_it_and_none_after() -> None:
    torch.manual_seed(0)
    network = make()
    _, logits = network(torch.randn(2, 3, 5), torch.rand(2), class_logits=True)
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    touched = [any(p.grad is not None for p in block.parameters()) for block in network.blocks]
    assert touched == [True, True, False, False]


def test_patches_that_are_not_there_do_not_count() -> None:
    torch.manual_seed(0)
    network, z, t = make(), torch.randn(1, 3, 5), torch.rand(1)
    present = torch.tensor([[True, True, False]])
    changed = z.clone()
    changed[:, 2] = 9.0
    logits = [network(x, t, present=present, class_logits=True)[1] for x in (z, changed)]
    torch.testing.assert_close(*logits)


@pytest.mark.parametrize(
    ("keys", "cure"),
    [
        ({"class_head": 4}, "before the last of 4 blocks"),
        ({"class_head": 3}, "in_context_start: 3"),
        ({"adaln": False}, "adaln: true"),
    ],
)
def test_a_head_that_would_be_told_is_refused(keys, cure) -> None:
    with pytest.raises(ValidationError, match=cure):
        make(**keys)


def test_a_head_needs_classes() -> None:
    with pytest.raises(UserError, match="the data have none"):
        Transformer(TransformerSettings(**SMALL, class_head=1), Interface(5), GRID)
