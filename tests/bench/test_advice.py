"""Advice follows from numbers: none without, and each names those that it follows from."""

from dataclasses import replace

import pytest

from rawdiff.bench.advice import advise
from rawdiff.bench.measured import (
    Chip,
    Measured,
    Reading,
    Saving,
    Sizes,
    Step,
    Tried,
    Variant,
)

PARTS = {"forward": 0.03, "backward": 0.065, "optimizer": 0.002, "ema": 0.001, "rest": 0.002}
GPU = Chip("H200", 989e12, "the dense bfloat16 peak of its data sheet", 140 * 2**30, is_gpu=True)


def measured(**changes) -> Measured:
    """A run to which nothing can be said: 2,560 samples a second on a GPU, from fast data."""
    sizes = Sizes(256, 256, own=64, used=64, num_timed=4, tried=(Tried(64, 2560.0, 2**34),))
    found = Measured(
        chip=GPU,
        precision="bfloat16",
        num_processes=1,
        num_steps=1000,
        train_flops=150 * 10**9,
        sizes=sizes,
        step=Step(0.1, {"data": 0.0, **PARTS}, wait=0.0),
        peak_bytes=2**34,
        log_seconds=0.001,
        log_every=50,
        reading=Reading({0: 500.0, 8: 9000.0}, 8, is_packed=False, num_cpus=16),
        saving=Saving(0.1, 3.0, 10**9, every_seconds=100.0, every_steps=1000),
    )
    return replace(found, **changes)


def waiting(rates: dict[int, float], own: int, *, is_packed: bool = False) -> list[str]:
    """Each step waits 35 ms, beside 100 ms of computing."""
    step = Step(0.1, {"data": 0.035, **PARTS}, wait=0.035)
    return advise(measured(step=step, reading=Reading(rates, own, is_packed, num_cpus=16)))


def test_where_nothing_is_to_be_gained_that_is_said_with_its_numbers() -> None:
    (only,) = advise(measured())
    assert "are 95% of a step" in only
    assert "at 39% of the dense bfloat16 peak" in only


def test_a_loader_that_is_too_slow_is_named_with_both_rates_and_the_measured_cure() -> None:
    (only,) = waiting({0: 950.0, 2: 1900.0, 4: 3700.0}, own=2)
    for words in (
        "waits 35 ms for data, 26% of the time",
        "with 2 workers, gives 1,900 samples a second, and the GPU takes 2,560",
        "`train.num_workers=4` gives 3,700",
        "`rawdiff prepare`",
    ):
        assert words in only


def test_packed_data_are_not_to_be_packed_again_and_workers_that_do_not_help_not_raised() -> None:
    (only,) = waiting({0: 1900.0, 16: 1900.0}, own=16, is_packed=True)
    assert "prepare" not in only
    assert "num_workers=" not in only
    assert "the data are packed, and more of the 16 processors gave no more" in only


def test_a_wait_that_is_not_there_is_not_advised_against() -> None:
    slow = Reading({0: 100.0}, 0, is_packed=False, num_cpus=16)
    assert "wait" not in " ".join(advise(measured(reading=slow)))


def test_a_micro_batch_that_is_faster_is_advised_with_its_gain_and_its_memory() -> None:
    tried = (Tried(64, 2560.0, 2**34), Tried(128, 3072.0, 2**35), Tried(256, fits=False))
    sizes = Sizes(256, 256, own=64, used=64, num_timed=4, tried=tried)
    (only,) = advise(measured(sizes=sizes))
    assert "128 samples at a time instead of 64 give 1.20 times" in only
    assert "(3,072.0 instead of 2,560.0, with 32.00 GiB at most)" in only
    assert "`train.micro_batch_size=128`" in only


def test_a_micro_batch_is_not_advised_where_the_own_one_was_as_fast_in_whole_steps() -> None:
    tried = (Tried(64, 2000.0, 2**34), Tried(128, 2600.0, 2**35))
    sizes = Sizes(256, 256, own=64, used=64, num_timed=4, tried=tried)
    (only,) = advise(measured(sizes=sizes))
    assert "micro_batch_size" not in only


def test_a_micro_batch_that_does_not_fit_is_replaced_by_the_largest_that_does() -> None:
    tried = (Tried(32, 2000.0, 2**35), Tried(64, fits=False))
    sizes = Sizes(256, 256, own=64, used=32, num_timed=4, tried=tried)
    (only,) = advise(measured(sizes=sizes))
    assert "64 samples at a time do not fit 140.00 GiB" in only
    assert "`train.micro_batch_size=32`" in only


@pytest.mark.parametrize(("speedup", "said"), [(1.7, True), (1.04, False), (0.6, False)])
def test_other_settings_are_advised_where_they_were_measured_to_gain(speedup, said) -> None:
    (only,) = advise(measured(variants=(Variant("parallel.compile=true", speedup),)))
    assert (only == "`parallel.compile=true` gives 1.70 times the samples a second.") == said


def test_a_setting_that_cannot_run_is_not_advised() -> None:
    (only,) = advise(measured(variants=(Variant("parallel.compile=true", None, "no compiler"),)))
    assert "compile" not in only


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("ema", "The averages under `train.ema` take 17% of a step, 20 ms"),
        ("optimizer", "The optimizer takes 17% of a step, 20 ms for 256 samples"),
    ],
)
def test_updates_that_take_more_than_a_twentieth_are_named(part, words) -> None:
    parts = PARTS | {part: 0.02}
    (only,) = advise(measured(step=Step(sum(parts.values()), parts, wait=None)))
    assert only.startswith(words)


def test_checkpoints_that_stall_training_come_too_often() -> None:
    saving = Saving(0.5, 0.6, 10**9, every_seconds=10.0, every_steps=100)
    (only,) = advise(measured(saving=saving))
    assert "stalls training for 500 ms" in only
    assert "`checkpoint.every_steps: 100` 5% of the time" in only
    assert "`auto`, or 500 steps, keep it under 1%" in only


def test_checkpoints_that_are_due_before_the_last_one_is_written_are_named() -> None:
    saving = Saving(0.001, 12.0, 10**9, every_seconds=5.0, every_steps=50)
    (only,) = advise(measured(saving=saving))
    assert "on the disk after 12.00 s, but the next one is due after 5.00 s" in only
    assert "`checkpoint.every_steps` 120 or more" in only


def test_checkpoints_as_often_as_pays_are_left_alone() -> None:
    (only,) = advise(measured(saving=Saving(2.0, 90.0, 10**9, 60.0, every_steps=None)))
    assert "checkpoint" not in only


def test_a_log_that_takes_more_than_a_hundredth_is_written_less_often() -> None:
    (only,) = advise(measured(log_seconds=0.01, log_every=1))
    assert "`train.log_every: 1` 9% of the time: 10 keeps it under 1%" in only
