"""The largest micro-batch that fits is found in few tries; a CPU tries what it has time for."""

import pytest
import torch

from rawdiff.bench.measured import Tried
from rawdiff.bench.micro_batch import find_largest, sizes_for_cpu, sizes_of, try_size


class Gpu:
    """Runs out of memory above a size."""

    def __init__(self, limit: int) -> None:
        self.limit, self.tried, self.num_freed = limit, [], 0

    def run(self, size: int) -> Tried:
        self.tried.append(size)
        if size > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Tried(size, samples_per_second=10.0 * size)

    def free(self) -> None:
        self.num_freed += 1

    def fits(self, size: int) -> bool:
        return try_size(size, self.run, self.free).fits


@pytest.mark.parametrize("share", [1, 7, 96, 100, 1024])
def test_the_largest_size_that_fits_is_found_wherever_the_search_begins(share) -> None:
    sizes = sizes_of(share)
    for first in sizes:
        for limit in range(share + 2):
            gpu = Gpu(limit)
            fitting = [size for size in sizes if size <= limit]
            assert find_largest(sizes, first, gpu.fits) == (fitting[-1] if fitting else None)
            assert len(gpu.tried) == len(set(gpu.tried))
            assert gpu.num_freed == sum(size > limit for size in gpu.tried)


def test_few_of_many_sizes_are_tried() -> None:
    sizes = sizes_of(27720)
    assert len(sizes) == 96
    for limit in range(1, 27721, 100):
        gpu = Gpu(limit)
        find_largest(sizes, 60, gpu.fits)
        assert len(gpu.tried) <= 12


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    def broken(size: int) -> Tried:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        try_size(4, broken, lambda: None)


def test_a_search_that_must_end_gives_the_largest_that_is_known_to_fit() -> None:
    gpu = Gpu(limit=1024)
    assert find_largest(sizes_of(1024), 8, gpu.fits, lambda: len(gpu.tried) < 3) == 32


def test_sizes_cut_the_share_into_equal_parts() -> None:
    assert sizes_of(12) == [1, 2, 3, 4, 6, 12]


def test_a_cpu_tries_the_recipes_own_size_first_and_none_that_takes_too_long() -> None:
    sizes = sizes_of(96)
    tried = sizes_for_cpu(sizes, own=24, seconds=lambda size: size / 10, patience=5)
    assert tried[0] == 24
    assert set(tried) == {6, 12, 24, 48}
    assert sizes_for_cpu(sizes, own=24, seconds=lambda size: size, patience=0.5) == [1]
