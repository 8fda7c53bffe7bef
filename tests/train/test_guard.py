"""A step that would do harm is not taken; what lasts is left behind, or explained."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import poison
import pytest
import torch
from poison import poisoned, spoil
from processes import torchrun
from runs import checkpoint_tensors, metrics, small_recipe, write_arrays
from torch import Tensor

from rawdiff.assemble import make_network, make_patcher, materialize, open_data, take_statistics
from rawdiff.cli.main import main
from rawdiff.data.order import SampleOrder
from rawdiff.model.initialize import initialize
from rawdiff.recipe import GuardSettings
from rawdiff.recipe_file import load_recipe
from rawdiff.train import rollback
from rawdiff.train.diagnosis import Diagnosis
from rawdiff.train.guard import Guard
from rawdiff.train.objective import Objective
from rawdiff.train.state import TrainState

BATCH = 8
FOREVER = range(10_000)
TIMING = {"samples_per_second", "model_flops", "data_share", "seconds_left"}
ONE = torch.tensor(1.0)


def small(folder: Path, **changes) -> Path:
    x = np.random.default_rng(0).normal(size=(30, 1, 8)).astype(np.float32)
    return small_recipe(
        folder, write_arrays(folder, x=x), [2], holdout={"fraction": 0.2}, **changes
    )


def train(recipe: Path, *keys: str) -> Path:
    assert main(["train", str(recipe), *keys]) == 0
    return load_recipe(recipe, list(keys)).run_dir


def places_of(*steps: int) -> list[int]:
    return [place for step in steps for place in range(BATCH * (step - 1), BATCH * step)]


@pytest.fixture
def spoiled(monkeypatch):
    """Spoils the losses at some places of all runs that follow; returns what they see."""

    def spoil_losses(places, value: float = math.nan) -> poison.Seen:
        seen: poison.Seen = []
        monkeypatch.undo()
        monkeypatch.setattr(Objective, "errors", poisoned(spoil(places, value), seen))
        return seen

    return spoil_losses


def judged(norms: np.ndarray, **keys) -> list[bool]:
    guard = Guard(GuardSettings(**keys), torch.device("cpu"))
    return [bool(guard.judge(ONE, torch.tensor(norm))) for norm in norms]


def lower_median(values: np.ndarray) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])


def limit(logs: np.ndarray, spike: float) -> float:
    median = lower_median(logs)
    return median + spike * 1.4826 * max(lower_median(np.abs(logs - median)), 0.1)


def test_a_spike_stands_out_from_median_and_deviation_of_the_norms_before_it() -> None:
    random = np.random.default_rng(0)
    norms = np.exp(random.normal(size=500) * 0.3)
    norms[random.choice(500, 60, replace=False)] *= np.exp(random.normal(size=60) * 3)
    norms[[3, 100, 101, 300]] = math.nan, math.inf, math.nan, 0.0
    expected, logs = [], np.empty(0)
    for norm in norms:
        log = np.log(norm) if norm else -math.inf
        limits = [limit(logs[-n:], 4.0) for n in (128, 16)] if len(logs) >= 32 else [math.inf]
        expected.append(math.isfinite(norm) and log <= max(limits))
        logs = np.append(logs, log) if math.isfinite(log) else logs
    assert 10 < expected.count(False) < 40
    assert judged(norms, spike=4.0) == expected


def test_norms_that_are_always_high_or_stay_high_do_not_starve_a_run() -> None:
    random = np.random.default_rng(0)
    high = 1e6 * np.exp(random.normal(size=300) * 0.2)
    assert all(judged(high))
    level = judged(np.concatenate([np.ones(200), high]))
    assert level[200:].index(True) == 9  # more than half of the last 16
    assert all(level[209:])
    lone = np.ones(300)
    lone[[100, 102, 200]] = 1e6
    assert [i for i, taken in enumerate(judged(lone)) if not taken] == [100, 102, 200]
    assert all(judged(lone, spike=None))


def test_a_loss_that_is_no_number_is_refused_whatever_its_gradient() -> None:
    guard = Guard(GuardSettings(spike=None), torch.device("cpu"))
    losses = [1.0, math.nan, math.inf, 1.0]
    taken = [bool(guard.judge(torch.tensor(loss), ONE)) for loss in losses]
    assert taken == [True, False, False, True]
    assert (int(guard.skipped), int(guard.in_a_row)) == (2, 0)


def bits(state: TrainState) -> dict[str, Tensor]:
    tensors = dict(state.network.named_parameters())
    tensors |= {f"{e.settings.name}.{n}": w for e in state.emas for n, w in e.weights.items()}
    for i, moments in enumerate(state.optimizer.state.values()):
        tensors |= {f"{i}.{name}": moment for name, moment in moments.items()}
    return {name: t.detach().clone().view(torch.int32) for name, t in tensors.items()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_that_is_not_taken_moves_the_clock_and_not_one_bit(tmp_path, optimizer) -> None:
    keys = ["train.weight_decay=0.1", f"train.optimizer={optimizer}"]
    recipe = load_recipe(small(tmp_path), keys)
    data = open_data(recipe)
    patcher = make_patcher(
        recipe, data.train.info, take_statistics(recipe, data.train), torch.device("cpu")
    )
    network = materialize(make_network(recipe, data.train.info, patcher), torch.device("cpu"))
    initialize(network, recipe.seed)
    state = TrainState(recipe, network)

    def update(value: float, taken: bool) -> None:
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, value)
        state.update(torch.tensor(taken))

    update(0.1, True)
    next(iter(state.emas[0].weights.values())).fill_(-0.0)  # + 0 would change it
    before = bits(state)
    update(math.nan, False)
    update(0.1, False)
    after = bits(state)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert state.step == 3
    update(0.1, True)
    moments = {n: t for n, t in bits(state).items() if "exp_avg" in n or "momentum" in n}
    assert any("momentum" in name for name in moments) == (optimizer == "muon")
    assert all(not torch.equal(t, after[name]) for name, t in moments.items())


def test_one_process_with_a_bad_loss_closes_the_gate_of_all(tmp_path) -> None:
    recipe = small(tmp_path, checkpoint={"every_steps": 1, "keep_last": 9})
    bad = places_of(3)[-2:]  # the second of two processes has them
    places = ",".join(map(str, bad))
    done = torchrun(2, "1", places, "train", recipe, "train.num_steps=5", script=poison.__file__)
    assert done.returncode == 0, done.stderr
    saved = [checkpoint_tensors(recipe.parent / "run", step) for step in (2, 3, 4)]
    kept = [name for name in saved[0] if name.split(".")[0] in ("model", "optimizer", "ema")]
    assert [name for name in kept if not torch.equal(saved[0][name], saved[1][name])] == []
    assert not all(torch.equal(saved[1][name], saved[2][name]) for name in kept)
    assert all(bool(tensor.isfinite().all()) for n, tensor in saved[2].items() if n in kept)
    assert [line.get("skipped", 0) for line in metrics(recipe.parent / "run")] == [0, 0, 1, 0, 0]


def test_the_log_averages_over_the_steps_that_were_taken(tmp_path, spoiled) -> None:
    recipe = small(tmp_path)
    spoiled(places_of(3, 4))
    every = metrics(train(recipe, "train.num_steps=6"))
    assert ["loss" in line for line in every] == [True, True, False, False, True, True]
    keys = ("train.num_steps=6", "train.log_every=6", f"run_dir={tmp_path / 'other'}")
    (line,) = metrics(train(recipe, *keys))
    assert line["skipped"] == 2
    for name in ("loss", "grad_norm"):
        expected = np.mean([line[name] for line in every if name in line])
        assert line[name] == pytest.approx(expected, rel=1e-9)


def test_a_run_that_stops_amid_skipped_steps_and_spikes_goes_on_bit_for_bit(
    tmp_path, spoiled
) -> None:
    recipe = small(tmp_path, train={"num_steps": 48})
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    spoiled(places_of(40, 41, 42, 45), 1e6)
    train(recipe, f"run_dir={whole}")
    train(recipe, f"run_dir={stopped}", "train.num_steps=41")
    train(recipe, f"run_dir={stopped}")
    first, second = (checkpoint_tensors(run, 48) for run in (whole, stopped))
    assert int(first["guard.skipped"]) == 4
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    lines = [
        [{k: v for k, v in line.items() if k not in TIMING} for line in metrics(run)]
        for run in (whole, stopped)
    ]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0] if "skipped" in line] == [40, 41, 42, 45]


ROLLBACK = {"guard": {"max_skipped": 4}, "train": {"num_steps": 20}}


def test_too_many_skipped_steps_lead_back_and_past_their_samples(tmp_path, spoiled) -> None:
    recipe = small(tmp_path, **ROLLBACK, checkpoint={"every_steps": 2, "keep_every_steps": 4})
    seen = spoiled(places_of(11, 12, 13, 14, 15))
    run = train(recipe)
    # Steps 11 to 14 are skipped; 8 is the newest permanent checkpoint before them.
    (record,) = json.loads((run / "rollbacks.json").read_text())
    assert (record["from_step"], record["to_step"], record["done"]) == (14, 8, True)
    assert record["next_place"] == 14 * BATCH
    assert [line["step"] for line in record["lost_lines"]] == [9, 10, 11, 12, 13, 14]
    assert [line["step"] for line in metrics(run)] == list(range(1, 21))
    assert [line.get("rollbacks", 0) for line in metrics(run)] == [0] * 8 + [1] * 12
    assert [line["step"] for line in metrics(run) if "skipped" in line] == [9]  # place of 15
    used = [place for places, _ in seen for place in places]
    again = places_of(14)  # for the diagnosis
    assert used == [*range(14 * BATCH), *again, *range(14 * BATCH, (14 + 12) * BATCH)]
    state = checkpoint_tensors(run, 20)
    assert int(state["jumped"]) == 6 * BATCH
    assert (int(state["step"]), int(state["rollbacks"])) == (20, 1)


def test_two_processes_go_back_together_and_name_the_samples_of_both(tmp_path) -> None:
    recipe = small(tmp_path, **ROLLBACK, checkpoint={"every_steps": 2, "keep_every_steps": 4})
    bad = [place for step in (11, 12, 13, 14) for place in places_of(step)[-2:]]
    places = ",".join(map(str, bad))
    done = torchrun(2, "1", places, "train", recipe, script=poison.__file__)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    (record,) = json.loads((run / "rollbacks.json").read_text())
    assert (record["from_step"], record["to_step"], record["done"]) == (14, 8, True)
    assert [line["step"] for line in metrics(run)] == list(range(1, 21))
    samples = json.loads((run / "diagnosis.json").read_text())["samples"]
    assert [sample["place"] for sample in samples] == places_of(14)
    assert [sample["loss"] == "nan" for sample in samples] == [False] * 6 + [True] * 2


def test_going_back_is_bounded_and_ends_with_a_diagnosis(tmp_path, spoiled, capsys) -> None:
    recipe = small(tmp_path, **ROLLBACK, checkpoint={"every_steps": 5})
    bad = [place for place in FOREVER if place >= 6 * BATCH and place % BATCH == 3]
    seen = spoiled(bad)
    assert main(["train", str(recipe)]) == 2
    text, run = capsys.readouterr().err, tmp_path / "run"
    assert [one["from_step"] for one in json.loads((run / "rollbacks.json").read_text())] == [10, 9]

    found = json.loads((run / "diagnosis.json").read_text())
    last = 10 + 4 + 4
    samples = found["samples"]
    assert (found["step"], found["skipped_in_a_row"]) == (9, 4)
    assert [sample["place"] for sample in samples] == places_of(last)
    assert ([sample["place"] for sample in samples], [s["t"] for s in samples]) == seen[-1]
    settings = load_recipe(recipe)
    data = open_data(settings)
    order = SampleOrder(len(data.train), settings.seed)
    indices = [int(data.train.indices[order[place]]) for place in places_of(last)]
    assert [sample["index"] for sample in samples] == indices
    losses = [sample["loss"] for sample in samples]
    assert losses[3] == "nan"
    assert all(isinstance(loss, float) for i, loss in enumerate(losses) if i != 3)
    assert set(found["gradient_norms"].values()) == {"nan"}
    assert f"The loss of {indices[3]} in the dataset is not finite" in text
    assert "Going back 2 times did not help" in text
    assert str(run / "diagnosis.json") in text

    # The count is not forgotten; more may be allowed.
    assert main(["train", str(recipe)]) == 2
    assert len(json.loads((run / "rollbacks.json").read_text())) == 2
    assert main(["train", str(recipe), "guard.max_rollbacks=3"]) == 2
    assert len(json.loads((run / "rollbacks.json").read_text())) == 3


def test_trouble_before_the_first_checkpoint_stops_at_once(tmp_path, spoiled, capsys) -> None:
    recipe = small(tmp_path, **ROLLBACK, checkpoint={"every_steps": 100})
    spoiled(FOREVER)
    assert main(["train", str(recipe)]) == 2
    text = capsys.readouterr().err
    assert "There is no checkpoint to go back to" in text
    assert "the weights have grown too large" in text
    assert (tmp_path / "run" / "diagnosis.json").is_file()


def test_a_crash_amid_going_back_does_not_continue_where_the_trouble_was(
    tmp_path, spoiled, monkeypatch
) -> None:
    recipe = small(tmp_path, **ROLLBACK, checkpoint={"every_steps": 2, "keep_last": 9})
    whole = tmp_path / "whole"
    bad = places_of(5, 6, 7, 8, 9)
    spoiled(bad)
    train(recipe, f"run_dir={whole}")

    spoiled(bad)
    removed = []

    def crash(path: Path) -> None:
        removed.append(path.name)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(rollback, "delete", crash)
        with pytest.raises(SystemExit):
            main(["train", str(recipe)])
    assert removed == ["step-00000004"]  # what was saved before 5 is kept: 2
    seen = spoiled(bad)
    run = train(recipe)
    assert seen[0][0] == places_of(9)  # those that made trouble are not met again
    first, second = checkpoint_tensors(whole, 20), checkpoint_tensors(run, 20)
    assert int(first["rollbacks"]) == 1
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_a_run_that_begins_anew_forgets_what_was_left_out(tmp_path, spoiled) -> None:
    recipe = small(tmp_path, **ROLLBACK, checkpoint={"every_steps": 2})
    spoiled(places_of(5, 6, 7, 8))
    run = train(recipe)
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.jsonl").unlink()
    spoiled([])
    train(recipe)
    assert int(checkpoint_tensors(run, 20)["jumped"]) == 0
    assert not (run / "rollbacks.json").exists()


def test_samples_far_from_all_others_are_named_even_if_their_loss_is_finite() -> None:
    samples = [{"index": i, "place": i, "t": 0.5, "loss": 1.0 + i} for i in range(7)]
    samples[3]["loss"] = 1.7e36
    found = Diagnosis(
        step=5, skipped_in_a_row=4, skipped=4, loss=math.inf, grad_norm=1e17, usual_grad_norm=1.0,
        harmless_when_run_again=False, gradient_norms={"a": 1e17, "b": 1.0}, samples=samples,
    )  # fmt: skip
    assert "The loss of 3 in the dataset is more than 1,000 times" in str(found)
    samples[5]["loss"] = math.nan
    assert [sample["index"] for sample in found.worst_samples[:3]] == [5, 3, 6]
