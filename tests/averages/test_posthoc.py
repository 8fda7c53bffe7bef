"""An average of any width, made after training, is the one that would have been tracked."""

import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import metrics, rawdiff, signal_at_step, small_recipe, start, write_arrays
from safetensors import safe_open

import rawdiff as package
from rawdiff.averages.ema import beta
from rawdiff.averages.posthoc import Profile, inner_products, solve
from rawdiff.averages.weights import read_weights
from rawdiff.cli.main import main
from rawdiff.recipe import EMASettings
from rawdiff.recipe_file import load_recipe
from rawdiff.saved.folder import RunFolder
from rawdiff.train.start import train

TRACKED = (0.05, 0.1)
NUM_STEPS = 200


def silent(text: str) -> None:
    pass


def make_recipe(folder: Path, widths=TRACKED) -> Path:
    random = np.random.default_rng(0)
    data = write_arrays(folder, x=random.normal(size=(50, 1, 8)).astype(np.float32))
    return small_recipe(
        folder,
        data,
        [2],
        train={"num_steps": NUM_STEPS, "ema": [{"power": width} for width in widths]},
        checkpoint={"every_steps": 100},
    )


def discrete(profile: Profile, num_steps: int) -> np.ndarray:
    """The weight of each step in the average, by the very updates of training."""
    settings, weights = EMASettings(power=profile.width), np.zeros(num_steps)
    for step in range(1, profile.step + 1):
        share = 1 - beta(settings, samples=8 * step, batch_size=8)
        weights *= 1 - share
        weights[step - 1] += share
    return weights


def test_the_integral_of_a_profile_is_what_training_gives_to_each_step() -> None:
    profile = Profile(0.1, 30)
    box = [Profile(0.28867, step) for step in range(1, 31)]  # nearly 1 / step up to that step
    below = inner_products([profile], box)[0] * np.arange(1, 31)
    assert np.diff(below, prepend=0) == pytest.approx(discrete(profile, 30), abs=1e-3)


def test_inner_products_are_those_of_the_profiles() -> None:
    t = (np.arange(200_000) + 0.5) / 200_000 * 20

    def values(width: float, step: int) -> np.ndarray:
        gamma = float(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real.max())
        return np.where(t <= step, (gamma + 1) * t**gamma / step ** (gamma + 1), 0)

    pairs = [(0.05, 20), (0.1, 10), (0.2, 15)]
    found = inner_products(*[[Profile(*pair) for pair in pairs]] * 2)
    expected = [[(values(*p) * values(*q)).mean() * 20 for q in pairs] for p in pairs]
    assert found == pytest.approx(np.array(expected), rel=1e-4)


def test_a_profile_that_is_there_is_taken_alone() -> None:
    sources = [Profile(width, step) for step in range(50, 1001, 50) for width in TRACKED]
    for own in (0, 21, 39):
        coefficients, error = solve(sources, sources[own])
        assert coefficients == pytest.approx(np.eye(len(sources))[own], abs=1e-6)
        assert error < 1e-6


def test_long_runs_and_narrow_profiles_are_solved_well() -> None:
    sources = [Profile(w, step) for step in range(15012, 750601, 15012) for w in (0.01, *TRACKED)]
    for width in (0.015, 0.075, 0.2):
        coefficients, error = solve(sources, Profile(width, 750600))
        assert error < 0.01
        assert coefficients.sum() == pytest.approx(1, abs=1e-9)
        assert np.abs(coefficients).sum() < 50  # by so much float32 rounding grows: under 1e-5


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    """Two widths tracked, a snapshot every tenth step: twenty of them."""
    recipe = make_recipe(tmp_path_factory.mktemp("snapshots"))
    return train(load_recipe(recipe, ["checkpoint.ema_every_steps=10"]), say=silent)


@pytest.fixture(scope="module")
def direct(tmp_path_factory) -> RunFolder:
    """The same training with other widths tracked."""
    recipe = make_recipe(tmp_path_factory.mktemp("direct"), (0.03, 0.075, 0.13, 0.15, 0.2))
    return train(load_recipe(recipe), say=silent)


def relative_error(found: dict, reference: dict) -> float:
    difference = torch.cat([(found[name] - reference[name]).flatten() for name in reference])
    return float(difference.norm() / torch.cat([w.flatten() for w in reference.values()]).norm())


@pytest.mark.parametrize("width", [0.03, 0.075, 0.13, 0.15, 0.2])
@pytest.mark.parametrize("step", [100, 200])
def test_a_width_made_later_is_the_one_tracked_directly(run, direct, width, step) -> None:
    reference = read_weights(direct, f"power_{width}", step, silent)
    found = read_weights(run, f"power_{width}", step, silent)
    assert (found.name, found.step) == (reference.name, reference.step)
    assert all(tensor.dtype == torch.float32 for tensor in found.tensors.values())
    error = relative_error(found.tensors, reference.tensors)
    assert error < (1e-3 if TRACKED[0] <= width and step == NUM_STEPS else 5e-3), error
    tracked = read_weights(run, "power_0.1", step, silent).tensors
    assert width == 0.13 or relative_error(tracked, reference.tensors) > 5 * error


def test_it_samples_loads_and_exports(run, tmp_path, capsys) -> None:
    assert main(["sample", str(run.path), "sample.weights=power_0.13"]) == 0
    assert "power_0.13 of step 200 is made from 40 averages" in capsys.readouterr().out
    assert main(["export", str(run.path), str(tmp_path / "out"), "--weights", "power_0.13"]) == 0
    model = package.load(run.path, weights="power_0.13", say=silent)
    exported = package.load(tmp_path / "out", say=silent)
    assert model.origin["weights"] == exported.origin["weights"] == "power_0.13"
    assert torch.equal(model.sample(4), exported.sample(4))


def copy_of(run: RunFolder, target: Path, *, without: tuple[str, ...] = ()) -> Path:
    """The same run without some of its files; they are linked, not copied."""
    for file in run.path.rglob("*"):
        name = str(file.relative_to(run.path))
        if file.is_file() and not any(name.startswith(start) for start in without):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).hardlink_to(file)
    return target


def test_a_checkpoint_stands_in_for_a_snapshot_of_its_step(run, direct, tmp_path) -> None:
    copy = copy_of(run, tmp_path / "copy", without=("averages/step-00000200",))
    found = read_weights(RunFolder(copy), "power_0.075", None, silent)
    reference = read_weights(direct, "power_0.075", 200, silent)
    assert found.step == 200
    assert relative_error(found.tensors, reference.tensors) < 1e-3


def test_a_snapshot_stands_in_for_a_checkpoint_that_is_gone(run) -> None:
    found = read_weights(run, "power_0.13", 150, silent)
    assert found.step == 150
    tracked = read_weights(run, "power_0.1", 150, silent).tensors
    with safe_open(run.averages / "step-00000150.safetensors", framework="pt") as file:
        assert all(torch.equal(x, file.get_tensor(f"power_0.1/{n}")) for n, x in tracked.items())
    assert tracked.keys() == found.tensors.keys()


def failure(capsys, *args: object) -> str:
    capsys.readouterr()
    assert main([str(arg) for arg in args]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_made_is_said_with_its_cure(run, direct, tmp_path, capsys) -> None:
    out = tmp_path / "out"

    def export(run: RunFolder, *args: object) -> str:
        return failure(capsys, "export", run.path, out, *args)

    assert "must lie between 0 and 0.28" in export(run, "--weights", "power_0.3")
    assert "must lie between 0 and 0.28" in failure(
        capsys, "sample", run.path, "sample.weights=power_0"
    )
    text = export(direct, "--weights", "power_0.1")
    assert "keeps no snapshots" in text
    assert "checkpoint.ema_every_steps" in text
    text = failure(capsys, "sample", direct.path, "sample.weights=power_0.1")
    assert "checkpoint.ema_every_steps" in text
    text = export(run, "--weights", "power_0.13", "--step", 7)
    assert "neither a snapshot nor a checkpoint of step 7" in text
    assert not out.exists()


def test_one_width_alone_is_worse_and_says_so(tmp_path) -> None:
    recipe = make_recipe(tmp_path, (0.1,))
    changes = ["checkpoint.ema_every_steps=10", "train.num_steps=40"]
    run, said = train(load_recipe(recipe, changes), say=silent), []
    read_weights(run, "power_0.2", None, said.append)
    assert "two widths (here: one)" in said[0]


def test_snapshots_need_power_averages(tmp_path, capsys) -> None:
    recipe = make_recipe(tmp_path)
    text = failure(
        capsys, "train", recipe, "checkpoint.ema_every_steps=5", "train.ema=[{decay: 0.9}]"
    )
    assert "train.ema has none" in text


def test_a_killed_run_leaves_the_same_snapshots_bit_for_bit(run, tmp_path) -> None:
    recipe = make_recipe(tmp_path)
    killed = tmp_path / "killed"
    command = ["train", recipe, f"run_dir={killed}", "checkpoint.ema_every_steps=10"]
    process = start(*command)
    signal_at_step(process, killed, 115, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert metrics(killed)[-1]["step"] < NUM_STEPS
    done = rawdiff(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "after step 100" in done.stdout
    files = sorted(path.name for path in run.averages.iterdir())
    assert files == [f"step-{step:08d}.safetensors" for step in range(10, 201, 10)]
    assert files == sorted(path.name for path in (killed / "averages").iterdir())
    for name in files:
        assert (run.averages / name).read_bytes() == (killed / "averages" / name).read_bytes()


def test_snapshots_of_another_beginning_do_not_stay(tmp_path) -> None:
    recipe = make_recipe(tmp_path)
    run = tmp_path / "run"
    (run / "averages").mkdir(parents=True)
    (run / "averages" / "step-00000017.safetensors").write_bytes(b"of another run")
    assert main(["train", str(recipe), "train.num_steps=6", "checkpoint.ema_every_steps=4"]) == 0
    files = sorted(path.name for path in (run / "averages").iterdir())
    assert files == ["step-00000004.safetensors", "step-00000006.safetensors"]


def test_a_full_disk_ends_the_run_as_for_a_checkpoint(tmp_path) -> None:
    recipe = make_recipe(tmp_path)
    command = ["train", recipe, "train.num_steps=15", "checkpoint.every_steps=5"]

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    assert rawdiff(*command[:2], "train.num_steps=5").returncode == 0
    failed = rawdiff(*command, "checkpoint.ema_every_steps=7", preexec_fn=small_disk)
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert "averages of step 7 could not be written" in failed.stderr
    assert "continues from step 5" in failed.stderr
    assert "Traceback" not in failed.stderr
    run = tmp_path / "run"
    assert not list((run / "averages").iterdir())
    done = rawdiff(*command, "checkpoint.ema_every_steps=7")
    assert done.returncode == 0, done.stderr
    assert len(list((run / "averages").iterdir())) == 3
