"""A process that all others wait for is named, and noise is not."""

import pytest
import torch
from torch import nn

from rawdiff.errors import UserError
from rawdiff.parallel.processes import Processes
from rawdiff.parallel.replicas import Checksum, require_equal_replicas
from rawdiff.train.pace import ENOUGH_CALLS, Pace


class _Told(Processes):
    """A first process whose fellows answer what the test says, from its own value."""

    answers: list = []  # noqa: RUF012

    def gather(self, value):
        return [value, *self.answers]


class _Network(nn.Linear):
    units = ()


def _pace(*others) -> tuple[Pace, _Network]:
    network, told = _Network(8, 8), _Told(0, 1 + len(others), 1)
    type(told).answers = list(others)
    return Pace(network, told, torch.device("cpu")), network  # type: ignore[arg-type]


def _window(pace: Pace, network: nn.Module, calls: int = ENOUGH_CALLS):
    for _ in range(calls):
        network(torch.zeros(1, 8))
    return pace.read(0.1)


def test_a_slow_process_is_named_once_and_only_when_it_stays_slow() -> None:
    pace, network = _pace((0.4, 1.0, "b"), (0.0, 1.5, "c"))
    metrics, warning = _window(pace, network)
    assert metrics["data_share"] == 0.4  # of the one that waits most
    assert metrics["slowest_process"] == pytest.approx(0.5)
    assert warning is None
    _, warning = _window(pace, network)
    assert warning is not None
    assert "Process 2 on c computes 50 % slower" in warning
    assert _window(pace, network)[1] is None


def test_a_little_slower_is_no_reason_to_warn_and_few_calls_say_nothing() -> None:
    pace, network = _pace((0.0, 1.0, "b"), (0.0, 1.05, "c"))
    assert [_window(pace, network)[1] for _ in range(3)] == [None] * 3
    pace, network = _pace((0.0, None, "b"))
    assert "slowest_process" not in _window(pace, network, ENOUGH_CALLS - 1)[0]


def _differ(*checksums: Checksum, shard: int) -> str:
    told = _Told(0, 1 + len(checksums), 1)
    type(told).answers = list(checksums)
    with pytest.raises(UserError) as found:
        require_equal_replicas({"step": torch.tensor(5)}, shard, told)
    return str(found.value).partition(" had ")[0]


def test_the_replica_that_differs_from_most_is_named() -> None:
    same, flipped = Checksum(0, 5, "a"), Checksum(64, 5, "b")
    assert _differ(flipped, shard=1).endswith("or process 1 on b")
    assert _differ(same, flipped, same, shard=1) == "Process 2 on b"
    assert _differ(same, same, same, same, flipped, shard=2) == "Process 5 on b"


def test_processes_with_other_shards_hold_other_bits() -> None:
    told, other = _Told(0, 4, 1), Checksum(9, 5, "a")
    type(told).answers = [other, Checksum(0, 5, "a"), other]
    require_equal_replicas({"step": torch.tensor(5)}, 2, told)


def test_what_all_hold_alike_is_compared_over_all() -> None:
    assert _differ(Checksum(1, 5, "a"), Checksum(2, 6, "c"), shard=3) == "Process 2 on c"
