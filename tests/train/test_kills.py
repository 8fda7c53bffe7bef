"""However often a run is killed, wherever: continued to the end, it is the one nobody killed."""

from random import Random

import pytest
from killed_runs import KilledRun, Moment, quick_recipe
from runs import differences

NUM_STEPS = 24


@pytest.mark.parametrize(("num_processes", "num_kills"), [(1, 4), (2, 2)])
def test_a_run_killed_again_and_again_is_the_one_nobody_killed(
    tmp_path, num_processes, num_kills
) -> None:
    recipe, random = quick_recipe(tmp_path, NUM_STEPS), Random(num_processes)
    whole = KilledRun(recipe, tmp_path / "whole", num_processes)
    killed = KilledRun(recipe, tmp_path / "killed", num_processes)
    whole.finish(NUM_STEPS)
    part = NUM_STEPS // (num_kills + 1)
    for i in range(num_kills):
        moment = Moment(random.randint(i * part + 1, (i + 1) * part), random.uniform(0, 0.05))
        assert killed.kill(moment) is not None
        assert not (killed.folder / "checkpoints" / f"step-{NUM_STEPS:08d}").exists()
    killed.finish(NUM_STEPS)
    assert killed.output.read_text().count("Continues") >= num_kills - 1  # after the first
    assert differences(killed.folder, whole.folder, NUM_STEPS) == []
