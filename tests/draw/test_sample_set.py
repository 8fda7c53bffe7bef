"""Sets of samples: continued, replaced, refused; whatever writes them and however they stop."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from killed_runs import kill_all
from PIL import Image, ImageSequence
from processes import ENVIRONMENT, side_by_side, torchrun
from runs import random_recipe, rawdiff

from rawdiff.cli.main import main
from rawdiff.data.array_files import open_array
from rawdiff.data.arrays import ArrayWriter
from rawdiff.data.dataset import DataInfo
from rawdiff.data.writer import Writer
from rawdiff.draw import drawing, film
from rawdiff.draw.sample_set import LIST_FILE, PARTIAL, PARTS
from rawdiff.files import locked
from rawdiff.recipe_file import load_recipe
from rawdiff.train.start import train

MANY = ("sample.num_samples=23", "sample.batch_size=4")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    recipe = random_recipe(folder, train={"num_steps": 2})
    return train(load_recipe(recipe), say=lambda text: None).path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "samples"


@pytest.fixture
def drawn(monkeypatch):
    """The numbers of the first samples of all batches that are drawn, in order."""
    firsts, draw_all = [], drawing.draw_all

    def spy(*args, first_index, **others):
        firsts.append(first_index)
        return draw_all(*args, first_index=first_index, **others)

    monkeypatch.setattr(drawing, "draw_all", spy)
    return firsts


def sample(run, out, *overrides):
    return main(["sample", str(run), *MANY, *map(str, overrides), "--out", str(out)])


def files(folder: Path) -> dict[str, bytes]:
    """The content of all files but hidden ones, by name."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    return {name: content for name, content in found.items() if not name.startswith(".")}


def break_at(monkeypatch, first: int, error: BaseException) -> None:
    """From now on the writer fails at the batch with this sample, once half of it is written."""
    write = ArrayWriter.write

    def broken(self, samples, folder, *, first_index=0, **others):
        if first_index == first:
            (folder / "half").write_text("")
            raise error
        return write(self, samples, folder, first_index=first_index, **others)

    monkeypatch.setattr(ArrayWriter, "write", broken)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no space left")])
@pytest.mark.parametrize("writer", ["npz", "zarr", "hdf5"])
def test_a_set_goes_on_where_it_stopped(run, out, drawn, monkeypatch, capsys, writer, error):
    keys = ["sample.writer.name=arrays", f"sample.writer.format={writer}"]
    with monkeypatch.context() as patched:
        break_at(patched, 12, error)
        assert sample(run, out, *keys) == (2 if isinstance(error, OSError) else 130)
    assert (writer == "npz") == ("samples-000000.npz" in files(out))
    assert not list(out.rglob("half"))
    drawn.clear()
    capsys.readouterr()
    assert sample(run, out, *keys) == 0
    assert drawn == [12, 16, 20]
    assert "12 of 23 samples are there already" in capsys.readouterr().out
    assert not list(out.glob(f"{PARTS}*"))

    whole = out.with_name("whole")
    assert sample(run, whole, *keys) == 0
    a, b = (_arrays(folder, writer) for folder in (out, whole))
    assert a["x"].shape == (23, 2, 6, 6)
    assert all(np.array_equal(a[name], b[name], equal_nan=True) for name in ("x", "labels"))
    assert (out / "picture.png").read_bytes() == (whole / "picture.png").read_bytes()

    drawn.clear()
    assert sample(run, out, *keys) == 0
    assert drawn == []
    assert "All 23 samples are there already" in capsys.readouterr().out


def _arrays(folder: Path, writer: str) -> dict[str, np.ndarray]:
    if writer != "npz":
        path = folder / {"zarr": "samples.zarr", "hdf5": "samples.h5"}[writer]
        return {name: open_array(path, name, default="x")[...] for name in ("x", "labels")}
    archives = [np.load(path) for path in sorted(folder.glob("samples-*.npz"))]
    return {name: np.concatenate([one[name] for one in archives]) for name in ("x", "labels")}


def test_other_settings_replace_a_set_and_leave_what_others_put_there(run, out, drawn, capsys):
    assert sample(run, out, "sample.num_samples=9") == 0
    (out / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert sample(run, out, "sample.seed=1") == 0
    assert "replaced: they have another sample.num_samples, sample.seed" in capsys.readouterr().out
    assert set(files(out)) == {
        "notes.txt",
        *("samples.json", "settings.json", "picture.png"),
        *(f"samples-{i:06d}.npz" for i in range(0, 23, 4)),
    }
    assert (out / "notes.txt").read_text() == "mine"


def test_a_mistake_that_shows_when_drawing_costs_no_samples(run, out, capsys):
    sample(run, out)
    before = files(out)
    beyond = out.parent / "beyond.npy"
    np.save(beyond, np.full((2, 6, 6), 1e30, np.float32))
    wrong, other = f"sample.observe.file={beyond}", out.parent / "other"
    for target in (out, other):
        capsys.readouterr()
        assert sample(run, target, wrong) == 2
        assert "32-bit numbers cannot weigh" in capsys.readouterr().err
    assert files(out) == before
    assert sample(run, other) == 0  # nothing that stays behind stands in the way
    assert (other / "settings.json").read_bytes() == before["settings.json"]


def test_a_set_with_lost_files_is_drawn_anew(run, out, drawn, capsys):
    assert sample(run, out) == 0
    before = files(out)
    (out / "samples-000008.npz").unlink()
    drawn.clear()
    assert sample(run, out) == 0
    assert len(drawn) == 6
    assert "1 files are gone" in capsys.readouterr().out
    assert files(out) == before


def test_weights_of_another_training_are_no_reason_to_go_on(run, out, drawn, tmp_path):
    assert sample(run, out) == 0
    recipe = random_recipe(tmp_path, train={"num_steps": 2}, seed=5)
    other = train(load_recipe(recipe), say=lambda text: None).path
    shutil.move(other, tmp_path / "moved")
    drawn.clear()
    assert sample(tmp_path / "moved", out) == 0
    assert len(drawn) == 6
    shutil.move(tmp_path / "moved", other)
    drawn.clear()
    assert sample(other, out) == 0  # the same weights, called otherwise
    assert drawn == []


def test_two_calls_at_once_are_refused_and_harm_nothing(run, out, capsys):
    assert sample(run, out) == 0
    before = files(out)
    with locked(out):
        assert sample(run, out, "sample.seed=1") == 2
    assert "Another process works in" in capsys.readouterr().err
    assert files(out) == before


def test_a_full_disk_is_told_and_leaves_no_half_file(run, out, capsys):
    """A limit on the size of files in the place of a quota: the system refuses in the same way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        assert sample(run, out, "sample.batch_size=20") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = capsys.readouterr().err
    assert "cannot be written" in told
    assert "File too large" in told
    assert set(files(out)) == {"settings.json"}
    assert not list(out.rglob(f"{PARTIAL}*"))
    assert sample(run, out, "sample.batch_size=20") == 0
    assert (out / LIST_FILE).is_file()


def test_a_batch_is_written_while_the_next_is_drawn(run, out, drawn, monkeypatch):
    """The first batch is not written before the second is drawn, or this would wait for ever."""
    write, second = ArrayWriter.write, threading.Event()
    draw_all = drawing.draw_all

    def waits(self, samples, folder, *, first_index=0, **others):
        assert first_index or second.wait(60)
        return write(self, samples, folder, first_index=first_index, **others)

    def tells(*args, first_index, **others):
        if first_index == 4:
            second.set()
        return draw_all(*args, first_index=first_index, **others)

    monkeypatch.setattr(ArrayWriter, "write", waits)
    monkeypatch.setattr(drawing, "draw_all", tells)
    assert sample(run, out) == 0


def test_any_processes_killed_and_stopped_draw_the_same_bits(run, tmp_path):
    """Two processes are killed, one goes on until SIGTERM, three end the set."""
    slow = ["sample", run, "sample.num_samples=200", "sample.batch_size=2", "sample.num_steps=10"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    done = rawdiff(*slow, "--out", whole, env=os.environ | ENVIRONMENT)
    assert done.returncode == 0, done.stderr

    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = _started(*launcher, "-m", "rawdiff", *slow, "--out", out)
    _wait_for_parts(process, out, 3)
    kill_all(process)
    there = _num_parts(out)
    assert 3 <= there < 100
    (next(out.glob(f"{PARTS}*")) / f"{PARTIAL}00000000-left").mkdir()

    process = _started("-m", "rawdiff", *slow, "--out", out)
    _wait_for_parts(process, out, there + 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert "the same command goes on" in process.stdout.read()
    assert _num_parts(out) < 100

    done = torchrun(3, *slow, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "of 200 samples are there already" in done.stdout
    assert files(out) == files(whole)
    assert not list(out.glob(f"{PARTS}*"))


def test_more_processes_than_samples_and_those_that_slurm_starts(run, out):
    ended = side_by_side(2, "sample", run, "sample.num_samples=1", "--out", out)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "1 samples and picture.png" in ended[0][1]
    assert ended[1][1] == ""
    assert np.load(out / "samples-000000.npz")["x"].shape[0] == 1


def _started(*args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | ENVIRONMENT,
        start_new_session=True,
    )


def _num_parts(out: Path) -> int:
    return len(list(out.glob(f"{PARTS}*/[0-9]*")))


def _wait_for_parts(process: subprocess.Popen[str], out: Path, number: int) -> None:
    deadline = time.monotonic() + 120
    while _num_parts(out) < number:
        assert time.monotonic() < deadline
        assert process.poll() is None, f"ended with {process.returncode}"
        time.sleep(0.002)


def test_a_film_shows_the_way_to_samples_that_are_there_already(run, out, drawn):
    assert sample(run, out) == 0
    drawn.clear()
    assert sample(run, out, "--film") == 0
    assert drawn == []
    with Image.open(out / "film.gif") as gif:
        assert gif.n_frames == 6  # one more than steps: the sample itself
        pages = [np.asarray(page.convert("RGB")) for page in ImageSequence.Iterator(gif)]
    assert all((a != b).any() for a, b in pairwise(pages))
    drawn.clear()
    assert sample(run, out) == 0
    assert drawn == []
    assert sample(run, out, "sample.seed=1") == 0
    assert not (out / "film.gif").exists()


def test_stages_have_the_colours_of_the_last_which_is_the_picture():
    info = DataInfo(shape=(2, 6, 6), channels=("a", "b"))
    frames = np.random.default_rng(0).normal(size=(3, 4, 2, 6, 6)).astype(np.float32)
    frames[:2] *= 5
    stages = ArrayWriter().draw_stages(frames, info=info)
    assert stages[-1] == ArrayWriter().draw(frames[-1], info=info)
    assert stages[0] != ArrayWriter().draw(frames[0], info=info)


def test_a_film_has_the_noise_beside_what_the_network_makes_of_it(run, out, monkeypatch):
    kept = {}

    def spy(stages, titles, path):
        kept.update(stages=stages, titles=titles)

    monkeypatch.setattr(drawing, "save_film", spy)
    assert sample(run, out, "--film", "sample.solver=euler") == 0
    assert kept["titles"][0] == ("t = 0.00: z_t", "x_pred")
    noise, guess = (np.asarray(picture.convert("L"), float) for picture in kept["stages"][0])
    assert noise.shape == guess.shape
    assert noise.std() > 1.2 * guess.std()
    last = kept["stages"][-1]
    assert last[0] == last[1]


def test_a_film_holds_fewer_samples_the_larger_they_are(tmp_path):
    sizes = {(84, 84): (4, 4), (284, 84): (2, 4), (536, 150): (1, 2), (2000, 1000): (1, 1)}
    for size, (columns, rows) in sizes.items():
        assert film.num_fitting(Image.new("RGB", size)) == (columns, rows)
    for size, across in (((60, 80), True), ((90, 80), False)):
        pages = [[Image.new("RGB", size)] * 2] * 2
        film.save_film(pages, [("t = 0: z_t", "x_pred")] * 2, tmp_path / "film.gif")
        with Image.open(tmp_path / "film.gif") as page:
            assert (page.width > page.height) == across


def test_a_writer_without_trajectories_is_refused_before_anything_is_written(
    run, out, monkeypatch, capsys
):
    monkeypatch.setattr(ArrayWriter, "write_frames", Writer.write_frames)
    assert sample(run, out, "sample.num_frames=3") == 2
    assert "ArrayWriter writes no trajectories" in capsys.readouterr().err
    assert not out.exists()


def test_a_film_of_a_forecast_is_refused(run, capsys):
    assert main(["sample", str(run), "--init", "2020-01-01", "--film"]) == 2
    assert "--film shows how samples are drawn" in capsys.readouterr().err


def test_settings_say_what_samples_depend_on(run, out):
    assert sample(run, out) == 0
    told = json.loads((out / "settings.json").read_text())
    assert {"run", "weights", "step", "sample", "digest of weights", "device"} <= told.keys()
