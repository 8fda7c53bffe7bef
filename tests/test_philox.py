"""Counter-based randomness: the published generator, and independence of how samples are split."""

import math

import pytest
import torch

from rawdiff import philox

# Known answers of Random123, file kat_vectors: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected) -> None:
    words = philox.philox(tuple(torch.tensor([c]) for c in counter), key)
    assert tuple(int(word) for word in words) == expected


def test_splitting_a_batch_leaves_every_bit() -> None:
    index = torch.arange(100, 112)
    whole = philox.normal(7, philox.Stream.NOISE, index, 33)
    for size in (1, 5, 12):
        parts = [philox.normal(7, philox.Stream.NOISE, i, 33) for i in index.split(size)]
        assert torch.equal(torch.cat(parts), whole)
    reversed_ = philox.normal(7, philox.Stream.NOISE, index.flip(0), 33)
    assert torch.equal(reversed_.flip(0), whole)


def test_more_elements_leave_the_first_ones() -> None:
    index = torch.arange(3)
    short = philox.normal(0, philox.Stream.NOISE, index, 10)
    assert torch.equal(philox.normal(0, philox.Stream.NOISE, index, 50)[:, :10], short)


def test_seed_stream_and_index_each_change_everything() -> None:
    def draw(seed: int, stream: int, index: int) -> torch.Tensor:
        return philox.normal(seed, stream, torch.tensor([index]), 20000)[0]

    first = draw(0, 1, 0)
    for other in (draw(1, 1, 0), draw(1 << 40, 1, 0), draw(0, 2, 0), draw(0, 1, 1 << 33)):
        assert not (other == first).any()
        assert abs(float(torch.corrcoef(torch.stack((first, other)))[0, 1])) < 0.03


def test_normals_are_normal() -> None:
    n = philox.normal(3, philox.Stream.NOISE, torch.arange(100), 10001)
    assert n.isfinite().all()
    assert abs(float(n.mean())) < 4e-3
    assert abs(float(n.std()) - 1) < 4e-3
    assert abs(float((n.abs() < 1).float().mean()) - math.erf(math.sqrt(0.5))) < 2e-3


def test_uniforms_stay_inside_the_open_interval() -> None:
    extremes = philox._to_uniform(torch.tensor([0, philox.MASK]))
    assert 0 < float(extremes[0]) < float(extremes[1]) < 1


def test_a_permutation_has_every_number_once() -> None:
    order = philox.permutation(0, philox.Stream.ORDER, 0, 1000)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert not torch.equal(order, philox.permutation(0, philox.Stream.ORDER, 1, 1000))
