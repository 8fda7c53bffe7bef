"""Between two draws of noise."""

import pytest
import torch

from rawdiff.flow.interpolate import slerp


def test_the_way_goes_from_one_end_to_the_other_with_the_spread_of_noise() -> None:
    a, b = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)).unbind(0)
    way = slerp(a, b, torch.linspace(0, 1, 5))
    assert torch.allclose(way[0], a[0], atol=1e-6)
    assert torch.allclose(way[-1], b[0], atol=1e-6)
    for z in way:
        assert float(z.std()) == pytest.approx(1, rel=0.02)  # 0.71 in the middle of a line
    steps = (way[1:] - way[:-1]).flatten(1).norm(dim=1)
    assert float(steps.max() / steps.min()) == pytest.approx(
        1, rel=0.05
    )  # norms of the ends differ


def test_from_a_sample_to_itself_there_is_no_way() -> None:
    a = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(slerp(a, a, torch.linspace(0, 1, 3)), a.expand(3, 4, 4), atol=1e-6)
