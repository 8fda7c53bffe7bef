"""Guidance across a prediction of x: which part of it is left out, and of whose values."""

import pytest
import torch
from torch import Tensor

from rawdiff.flow.guidance import guided
from rawdiff.flow.projection import projected


def d_and_x() -> tuple[Tensor, Tensor]:
    """Two [3, 4, 6]."""
    d, x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    return d, x


def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2))


def test_nothing_is_left_along_x_and_what_is_taken_lies_along_it() -> None:
    d, x = d_and_x()
    across = projected(d, x, None, parallel=0)
    assert torch.allclose(dot(across, x), torch.zeros(3), atol=1e-4)
    taken = d - across
    assert torch.allclose(taken, (dot(taken, x) / dot(x, x))[:, None, None] * x, atol=1e-5)
    assert torch.allclose(projected(d, x, None, parallel=0.5), (d + across) / 2, atol=1e-6)


def test_a_whole_parallel_part_leaves_the_same_bits() -> None:
    d, x = d_and_x()
    assert torch.equal(projected(d, x, None, parallel=1), d)


def test_each_sample_s_own_known_values_alone_decide() -> None:
    d, x = d_and_x()
    known = torch.zeros(3, 4, 6, dtype=torch.bool)
    known[:, :, :4] = True
    across = projected(d, x, known, parallel=0.25)
    garbled = d.where(known, 1e3), x.where(known, torch.nan)
    assert torch.equal(projected(*garbled, known, parallel=0.25), across)
    alone = projected(d[1:2], x[1:2], known[1:2], parallel=0.25)
    assert torch.equal(alone, across[1:2])
    cut = projected(d[:, :, :4], x[:, :, :4], None, parallel=0.25)
    assert torch.allclose(across[:, :, :4], cut, atol=1e-6)


def test_where_all_is_zero_nothing_is_divided_by_it() -> None:
    zeros = torch.zeros(2, 4, 6)
    assert torch.equal(projected(zeros, zeros, None, parallel=0), zeros)


@pytest.mark.parametrize("t", [0.3, 0.9995])
def test_guidance_of_x_whose_difference_stays_is_guidance_of_v(t) -> None:
    z, x = d_and_x()

    def velocity(z: Tensor, times: Tensor, label: Tensor) -> Tensor:
        left = (1 - times).clamp(min=1e-3)[:, None, None]
        return (torch.cat((x, x)) * label[:, None, None] - z) / left

    def seen(d: Tensor, x_label: Tensor) -> Tensor:
        assert torch.allclose(x_label, x * label[:, None, None], atol=1e-5)
        return d

    keys = {"cfg_scale": 3.0, "cfg_interval": (0.1, 1.0)}
    label, time = torch.tensor([1, 2, 3]), torch.tensor(t)
    plain = guided(velocity, label, 9, **keys)(z, time)
    by_x = guided(velocity, label, 9, **keys, change=seen, t_eps=1e-3)(z, time)
    assert torch.allclose(by_x, plain, rtol=1e-4, atol=1e-3)


def test_the_projection_compiles_as_one_graph() -> None:
    compiled = torch.compile(projected, backend="eager", fullgraph=True, dynamic=False)
    d, x = d_and_x()
    known = x > 0
    assert torch.equal(compiled(d, x, known, parallel=0.0), projected(d, x, known, parallel=0.0))
