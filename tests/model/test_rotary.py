"""What the network is told of places."""

import torch

from rawdiff.model.rotary import frequencies, position_table, rotary_angles, rotate, shares


def test_attention_sees_only_differences_of_positions() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 24)
    positions = torch.tensor([[3.0, 5.0, 2.0]])

    def score(shift_q: torch.Tensor, shift_k: torch.Tensor) -> float:
        cos_q, sin_q = rotary_angles(positions + shift_q, (None,) * 3, 24)
        cos_k, sin_k = rotary_angles(positions + shift_k, (None,) * 3, 24)
        return float((rotate(q, cos_q, sin_q) * rotate(k, cos_k, sin_k)).sum())

    step = torch.tensor([[1.0, -2.0, 0.5]])
    assert abs(score(step, 0 * step) - score(11 + step, 11 + 0 * step)) < 1e-4
    assert abs(score(step, 0 * step) - score(2 * step, 0 * step)) > 1e-2


def test_on_a_periodic_axis_first_and_last_patch_are_neighbours() -> None:
    def angles(position: float) -> torch.Tensor:
        cos, sin = rotary_angles(torch.tensor([[position]]), (36.0,), 64)
        return torch.cat((cos, sin), -1)

    assert torch.allclose(angles(36), angles(0), atol=1e-4)
    assert torch.allclose(angles(35), angles(-1), atol=1e-4)
    assert not torch.allclose(angles(18), angles(0), atol=1e-1)


def test_every_pair_of_values_belongs_to_an_axis() -> None:
    assert shares(32, 3) == [11, 11, 10]
    assert torch.equal(frequencies(4, None), 10000.0 ** -(torch.arange(4) / 4))


def test_the_table_tells_positions_of_any_axes_apart() -> None:
    positions = torch.cartesian_prod(*(torch.arange(3.0),) * 4)
    table = position_table(positions, (None,) * 4, 70)
    assert table.shape == (81, 70)
    distances = torch.cdist(table, table) + 10 * torch.eye(81)
    assert float(distances.min()) > 0.5
