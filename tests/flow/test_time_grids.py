"""Where the steps of a solver lie."""

import pytest
import torch
from torch import Tensor

from rawdiff.errors import UserError
from rawdiff.flow.times import edm, linear, logsnr, shifted

RANGE = (0.002, 80.0)
GRIDS = {
    "linear": linear,
    "shifted": lambda n, start: shifted(n, start, 3.0),
    "shifted to data": lambda n, start: shifted(n, start, 0.2),
    "logsnr": lambda n, start: logsnr(n, start, RANGE, 2.0),
    "edm": lambda n, start: edm(n, start, RANGE, 2.0),
}


def sigma(t: Tensor, noise_std: float) -> Tensor:
    return noise_std * (1 - t.double()) / t.double()


@pytest.mark.parametrize("start", [0.0, 0.001, 0.37, 0.95])
@pytest.mark.parametrize("name", GRIDS)
def test_times_ascend_from_the_start_to_1_exactly(name, start) -> None:
    for num_steps in (1, 2, 3, 50, 1000):
        times = GRIDS[name](num_steps, start)
        assert times.shape == (num_steps + 1,)
        assert times.dtype == torch.float32
        assert float(times[0]) == float(torch.tensor(start, dtype=torch.float32))
        assert float(times[-1]) == 1
        assert (times.diff() > 0).all()


def test_a_shift_makes_the_noise_as_many_times_as_large() -> None:
    t, moved = linear(20), shifted(20, 0.0, 4.0)
    assert torch.allclose(sigma(moved[1:-1], 1), 4 * sigma(t[1:-1], 1), rtol=1e-4)
    assert torch.allclose(shifted(20, 0.0, 1.0), t, atol=1e-7)


def test_a_shifted_grid_that_starts_later_has_its_steps_where_the_whole_one_has() -> None:
    whole = shifted(20, 0.0, 4.0)
    rest = shifted(12, float(whole[8]), 4.0)
    assert torch.allclose(rest, whole[8:], atol=1e-6)


@pytest.mark.parametrize("noise_std", [1.0, 4.0])
def test_noise_falls_evenly_in_its_logarithm_or_its_seventh_root(noise_std) -> None:
    for grid, view in ((logsnr, torch.log), (edm, lambda s: s ** (1 / 7))):
        times = grid(20, 0.0, (0.01, 50.0), noise_std)
        values = view(sigma(times[1:-1], noise_std))
        steps = values.diff()
        assert torch.allclose(steps, steps.mean().expand(18), rtol=0.01), grid
        first, last = view(torch.tensor([50.0, 0.01]).double())
        assert values[0] - steps.mean() == pytest.approx(float(first), rel=0.01)
        assert float(values[-1]) == pytest.approx(float(last), rel=0.001)


def test_noise_that_begins_below_the_smallest_is_named() -> None:
    for grid in (logsnr, edm):
        with pytest.raises(UserError, match=r"`sample.start` 0.99 .*spread of 0.0101.*with \(0.02"):
            grid(5, 0.99, (0.02, 80.0), 1.0)


def test_steps_too_short_for_32_bits_are_named() -> None:
    with pytest.raises(UserError, match="closer than numbers of 32 bits"):
        shifted(50, 0.0, 1e-9)
