"""Parts of a step add up to it, and are timed around the functions that the loop itself calls."""

import itertools

import pytest
import torch

from rawdiff.bench.parts import Parts, surrounded
from rawdiff.bench.steps import block_sizes, in_whole_step

CPU = torch.device("cpu")


def ticking() -> Parts:
    """A second passes with each look at the clock."""
    return Parts(CPU, itertools.count().__next__)  # type: ignore[arg-type]


def test_parts_within_a_part_count_for_themselves_and_add_up_to_the_round() -> None:
    parts = ticking()
    for _ in range(2):
        with parts.time("step"):
            with parts.time("prepare"), parts.time("copy"):
                pass
            with parts.time("copy"):
                pass
    assert parts.seconds == {"step": [3, 3], "prepare": [2, 2], "copy": [2, 2]}
    assert sum(parts.medians().values()) == 7  # from the first look to the last of a round


def test_a_round_that_fails_is_not_kept() -> None:
    parts = ticking()
    with pytest.raises(ValueError, match="no"), parts.time("step"), parts.time("inner"):
        raise ValueError("no")
    with parts.time("step"):
        pass
    assert parts.seconds == {"step": [1]}


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int) -> int:
        self.count += number
        return self.count


def test_functions_are_surrounded_and_then_as_they_were() -> None:
    counter, parts = Counter(), ticking()
    add, backward = Counter.add, torch.autograd.backward
    functions = [
        (counter, "add", "own"),
        (Counter, "add", "all"),
        (torch.autograd, "backward", "back"),
    ]
    with surrounded(functions, parts.time):
        assert counter.add(2) == 2
        assert Counter().add(3) == 3
        weight = torch.ones(2, requires_grad=True)
        torch.autograd.backward(weight.sum())
        assert weight.grad is not None
    assert {name: len(values) for name, values in parts.seconds.items()} == {
        "own": 1,
        "all": 1,
        "back": 1,
    }
    assert "add" not in vars(counter)
    assert Counter.add is add
    assert torch.autograd.backward is backward


def test_what_comes_with_each_micro_batch_is_scaled_and_what_comes_once_is_not() -> None:
    parts = {"forward": 2.0, "backward": 4.0, "optimizer": 1.0, "rest": 0.5}
    whole = in_whole_step(parts, num_measured=2, num_all=6)
    assert whole == {"forward": 6.0, "backward": 12.0, "optimizer": 1.0, "rest": 0.5}


def test_blocks_hold_all_steps() -> None:
    assert [block_sizes(n) for n in (1, 4, 5, 12)] == [
        [1],
        [1] * 4,
        [1] * 5,
        [3, 3, 2, 2, 2],
    ]


def test_an_error_leaves_functions_as_they_were() -> None:
    counter = Counter()
    with pytest.raises(TypeError), surrounded([(counter, "add", "own")], ticking().time):
        counter.add("no number")  # type: ignore[arg-type]
    assert "add" not in vars(counter)
