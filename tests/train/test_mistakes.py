"""What goes wrong for users: each time an error with its cure, and nothing good is lost."""

import json
import os
import pickle
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import checkpoint_tensors, metrics, rawdiff, small_recipe, write_arrays

from rawdiff.cli.main import main
from rawdiff.files import locked


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(20, 1, 8)).astype(np.float32)
    return small_recipe(
        tmp_path,
        write_arrays(tmp_path, x=x),
        [2],
        train={"num_steps": 10},
        holdout={"fraction": 0.2},
    )


@pytest.fixture
def run(recipe: Path) -> Path:
    assert main(["train", str(recipe)]) == 0
    return recipe.parent / "run"


def failure(capsys, *args: object) -> str:
    """What a command that must fail tells on stderr, without a trace."""
    capsys.readouterr()
    assert main([str(arg) for arg in args]) == 2
    text = capsys.readouterr().err
    assert text.startswith("rawdiff: ")
    assert "Traceback" not in text
    return text


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_missing_path_is_named(recipe, capsys) -> None:
    assert "nowhere.npz" in failure(capsys, "train", recipe, "data.path=nowhere.npz")


def test_a_run_that_is_not_there_is_no_fresh_start(tmp_path, capsys) -> None:
    assert "There is no run" in failure(capsys, "sample", tmp_path / "none")
    assert "holds no run" in failure(capsys, "eval", tmp_path)
    (tmp_path / "file.pth").touch()
    assert "`rawdiff import`" in failure(capsys, "sample", tmp_path / "file.pth")


def test_a_checkpoint_that_was_asked_for_and_is_not_there(run, capsys) -> None:
    text = failure(capsys, "sample", run, "--step", 7)
    assert "no checkpoint of step 7; there are: 5, 10" in text
    text = failure(capsys, "sample", run, "sample.weights=model", "sample.weights=decay_0.123")
    assert "decay_0.123" in text


def test_weights_to_begin_with_that_are_not_there(recipe, capsys) -> None:
    text = failure(capsys, "train", recipe, f"train.init_from={recipe.parent / 'none'}")
    assert "There is no run" in text
    assert not (recipe.parent / "run" / "checkpoints").exists()


def test_another_recipe_in_the_same_folder_is_refused_with_both_values(recipe, run, capsys) -> None:
    before = checkpoint_tensors(run, 10)
    text = failure(capsys, "train", recipe, "model.width=48", "seed=3", "train.num_steps=12")
    assert "model.width: 32 there, 48 now" in text
    assert "seed: 0 there, 3 now" in text
    assert "num_steps" not in text
    after = checkpoint_tensors(run, 10)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_of_another_model_are_named(recipe, run, capsys) -> None:
    text = failure(
        capsys, "train", recipe, "model.width=48", f"train.init_from={run}",
        f"run_dir={run.parent / 'other'}",
    )  # fmt: skip
    assert "of another model" in text
    assert "has shape" in text


def test_a_checkpoint_with_other_tensors_is_named(recipe, run, tmp_path, capsys) -> None:
    other = tmp_path / "other"
    assert main(["train", str(recipe), f"run_dir={other}", "model.width=48"]) == 0
    foreign = other / "checkpoints" / "step-00000010"
    shutil.copy(run / "checkpoints" / "step-00000010" / "recipe.yaml", foreign)
    (foreign / "manifest.json").write_text('{"files": {}}')
    text = failure(capsys, "train", recipe, f"run_dir={other}", "train.num_steps=12")
    assert "belongs to another model" in text


def test_begin_from_the_weights_of_another_run(recipe, run) -> None:
    new = run.parent / "new"
    command = ["train", str(recipe), f"run_dir={new}", f"train.init_from={run}"]
    assert main([*command, "train.num_steps=1", "train.learning_rate=1e-12"]) == 0
    ours, theirs = checkpoint_tensors(new, 1), checkpoint_tensors(run, 10)
    name = "model.blocks.0.attn.qkv.weight"
    # the first EMA of the run is what sampling would use, so it is what is taken over
    assert torch.allclose(ours[name], theirs[name.replace("model", "ema.power_0.1")], atol=1e-6)


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(recipe, run, capsys) -> None:
    whole = checkpoint_tensors(run, 10)
    flip_a_bit(run / "checkpoints" / "step-00000010" / "__0_0.distcp")
    assert main(["train", str(recipe)]) == 0
    output = capsys.readouterr().out
    assert "step-00000010 is damaged (__0_0.distcp has another checksum" in output
    assert "after step 5" in output
    again = checkpoint_tensors(run, 10)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_no_whole_checkpoint_is_an_error_not_a_fresh_start(recipe, run, capsys) -> None:
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "recipe.yaml").unlink()
    text = failure(capsys, "train", recipe)
    assert "No checkpoint" in text
    assert len(list((run / "checkpoints").iterdir())) == 2


def test_data_that_changed_are_refused(recipe, run, capsys) -> None:
    x = np.zeros((30, 1, 8), dtype=np.float32)
    write_arrays(recipe.parent, x=x)
    text = failure(capsys, "train", recipe, "train.num_steps=12")
    assert "num_train_samples: 16 there, 24 now" in text
    write_arrays(recipe.parent, x=x[:20, :, :4])
    assert "shape: [1, 8] there, [1, 4] now" in failure(capsys, "train", recipe)


class Evil:
    """Pickled code that leaves a file where it is run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_checkpoint_with_code_in_it_is_refused_without_running_it(run, capsys) -> None:
    mark = run.parent / "was_run"
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / ".metadata").write_bytes(pickle.dumps({"state_dict_metadata": Evil(mark)}))
        (checkpoint / "manifest.json").write_text('{"files": {}}')
    text = failure(capsys, "sample", run)
    assert "posix.mkdir" in text
    assert not mark.exists()


def test_two_processes_cannot_train_in_one_folder(recipe, run, capsys) -> None:
    with locked(run):
        assert "Another process" in failure(capsys, "train", recipe, "train.num_steps=12")
    assert main(["train", str(recipe), "train.num_steps=12"]) == 0


def test_a_full_disk_loses_no_good_checkpoint(recipe, run) -> None:
    whole = checkpoint_tensors(run, 10)
    size = (run / "checkpoints" / "step-00000010" / "__0_0.distcp").stat().st_size

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    failed = rawdiff("train", recipe, "train.num_steps=15", preexec_fn=small_disk)
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert "checkpoint of step 15 could not be written" in failed.stderr
    assert "continues from step 10" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [
        "step-00000005",
        "step-00000010",
    ]
    after = checkpoint_tensors(run, 10)
    assert all(torch.equal(whole[name], after[name]) for name in whole)
    done = rawdiff("train", recipe, "train.num_steps=15")
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in metrics(run)] == list(range(1, 16))


def test_a_log_that_cannot_be_written_says_so(recipe, capsys) -> None:
    run = recipe.parent / "run"
    run.mkdir()
    (run / "metrics.jsonl").symlink_to("/dev/full")
    assert "metrics.jsonl cannot be written" in failure(capsys, "train", recipe)


def test_a_picture_that_cannot_be_written_does_not_end_the_run(recipe, capsys) -> None:
    run = recipe.parent / "run"
    run.mkdir()
    (run / "pictures").write_text("a file in the way")
    assert main(["train", str(recipe), "train.picture_every=5"]) == 0
    assert "No picture of step 5" in capsys.readouterr().out
    assert metrics(run)[-1]["step"] == 10


def test_samples_never_mix_with_other_files(run, capsys) -> None:
    assert main(["sample", str(run), "sample.num_samples=9", "sample.batch_size=4"]) == 0
    assert len(list((run / "samples").glob("*.npz"))) == 3
    drawn = json.loads((run / "samples" / "settings.json").read_text())
    assert (drawn["run"], drawn["weights"], drawn["step"]) == (str(run), "power_0.1", 10)
    assert drawn["sample"]["seed"] == 0
    assert main(["sample", str(run), "sample.num_samples=2"]) == 0
    assert len(list((run / "samples").glob("*.npz"))) == 1
    assert "something else than samples" in failure(capsys, "sample", run, "--out", run)


def test_keys_that_made_the_model_cannot_be_changed_afterwards(run, capsys) -> None:
    assert "`seed` belongs to the training" in failure(capsys, "eval", run, "seed=1")
    assert "training data would pass" in failure(capsys, "eval", run, "holdout.fraction=0.4")


def test_pruning_never_deletes_the_newest_good_checkpoint(recipe, run, capsys) -> None:
    flip_a_bit(run / "checkpoints" / "step-00000010" / "__0_0.distcp")
    keep = ["checkpoint={every_steps: 20, keep_last: 1, keep_every_steps: 5}"]
    assert main(["train", str(recipe), "train.num_steps=9", *keep]) == 0
    assert sorted(_steps(run)) == [5, 9, 10]


def test_weights_that_explode_stop_with_a_diagnosis_and_no_last_checkpoint(recipe, capsys) -> None:
    keys = ("train.learning_rate=1e30", "train.clip_norm=null", "guard.max_skipped=4")
    text = failure(capsys, "train", recipe, *keys)
    assert "the weights have grown too large" in text
    assert "Lower `train.learning_rate`" in text
    run = recipe.parent / "run"
    assert all(step < 10 for step in _steps(run))
    assert all("loss" not in line for line in metrics(run)[1:])  # of no step that was skipped


def _steps(run: Path) -> list[int]:
    return [int(p.name.removeprefix("step-")) for p in (run / "checkpoints").glob("step-*")]


def test_scores_without_held_out_data_are_refused(recipe, capsys) -> None:
    run = recipe.parent / "none_held_out"
    assert main(["train", str(recipe), "holdout=null", f"run_dir={run}"]) == 0
    assert "real held-out data beside it" in failure(capsys, "eval", run)


def test_a_size_that_the_patch_does_not_divide(recipe, capsys) -> None:
    text = failure(capsys, "check", recipe, "adapter.patch_size=[3]", "adapter.pad=false")
    assert "8 values along `axis0` cannot be cut into patches of 3" in text


def _images(folder: Path, num: int = 12) -> Path:
    random = np.random.default_rng(0)
    for i in range(num):
        path = folder / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return folder


IMAGES = [
    "data.size=16",
    "train.num_steps=4",
    "train.batch_size=4",
    "train.log_every=1",
    "train.picture_every=null",
    "model={width: 32, depth: 2, heads: 2, in_context_len: 0}",
    "holdout.fraction=0.2",
]


def _image_command(folder: Path, run: Path, *more: str) -> list[str]:
    return ["train", "images", f"data.path={folder}", f"run_dir={run}", *IMAGES, *more]


def test_a_damaged_image_stops_or_is_skipped_and_counted(tmp_path, capsys) -> None:
    folder = _images(tmp_path / "images")
    broken = folder / "class0" / "2.png"
    broken.write_bytes(broken.read_bytes()[:200])
    command = _image_command(folder, tmp_path / "run")
    text = failure(capsys, *command, "data.on_error=stop")
    assert str(broken) in text
    assert main([*command, "data.on_error=skip"]) == 0
    assert sum(line.get("damaged_samples", 0) for line in metrics(tmp_path / "run")) > 0


def test_an_empty_folder_and_a_folder_with_one_class(tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    text = failure(capsys, *_image_command(tmp_path / "empty", tmp_path / "run"))
    assert str(tmp_path / "empty") in text
    one = _images(tmp_path / "images")
    shutil.rmtree(one / "class1")
    assert main(_image_command(one, tmp_path / "run")) == 0
    assert main(["sample", str(tmp_path / "run"), "sample.num_samples=3"]) == 0
    assert (tmp_path / "run" / "samples" / "picture.png").is_file()


def test_a_mesh_that_one_process_cannot_be_is_refused_before_the_first_step(recipe, capsys) -> None:
    text = failure(capsys, "train", recipe, "parallel.shard=2")
    assert "`parallel.shard: 2` does not make 1, the number of processes" in text
    assert "Write `parallel.shard: auto`" in text
    assert "parallel.replicate" in failure(capsys, "train", recipe, "parallel.replicate=0")
    assert not (recipe.parent / "run").exists()


def test_checkpoints_that_are_gone_are_no_reason_to_begin_anew(recipe, run, capsys) -> None:
    assert main(["train", str(recipe), "train.num_steps=11"]) == 0
    log = (run / "metrics.jsonl").read_text()
    (run / "checkpoints").rename(run.parent / "elsewhere")
    text = failure(capsys, "train", recipe)
    assert "goes to step 11, but there is no checkpoint; one was to be written every 5" in text
    assert (run / "metrics.jsonl").read_text() == log
    (run.parent / "elsewhere").rename(run / "checkpoints")
    assert main(["train", str(recipe), "train.num_steps=12"]) == 0
    assert len(metrics(run)) == 12


def test_a_damaged_log_ends_no_run(recipe, run) -> None:
    (run / "metrics.jsonl").write_bytes(b"\xb5\x00" + (run / "metrics.jsonl").read_bytes())
    assert main(["train", str(recipe), "train.num_steps=12"]) == 0
    assert [line["step"] for line in metrics(run)] == list(range(2, 13))
