"""The page about a run: whole, true, escaped, and at home in a real browser without a network."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import look, screenshot
from PIL import Image
from runs import small_recipe, write_arrays

from rawdiff import results
from rawdiff.cli.main import main
from rawdiff.exchange.export import export
from rawdiff.recipe_file import load_recipe, merge
from rawdiff.report.charts import MAX_POINTS, Chart, Series, thinned
from rawdiff.report.concerns import judge, score_concerns
from rawdiff.report.page import coded, write_report
from rawdiff.report.pictures import MAX_BYTES, embed
from rawdiff.report.record import read_record
from rawdiff.report.scales import Scale, clock, scale_of, short, tick_texts
from rawdiff.train.start import train

NAME = "<b>&run"


def make_run(folder: Path, **changes) -> Path:
    """A run of 20 steps with two pictures."""
    random = np.random.default_rng(0)
    x = 40 * random.normal(size=(64, 1, 8, 8)).astype(np.float32)
    data = write_arrays(folder, x=x, labels=random.integers(0, 3, 64))
    defaults = {
        "run_dir": str(folder / NAME),
        "train": {"num_steps": 20, "batch_size": 128, "log_every": 2, "picture_every": 10},
        "holdout": {"fraction": 0.25},
    }
    recipe = load_recipe(small_recipe(folder, data, [4, 4], **merge(defaults, changes)), [])
    return train(recipe, lambda text: None).path


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """One that was trained, sampled and scored."""
    path = make_run(tmp_path_factory.mktemp("good"))
    results.sample_run(path, say=lambda text: None)
    results.evaluate_run(path, ["evaluate.num_samples=16"], say=lambda text: None)
    return path


@pytest.fixture
def copied(run, tmp_path) -> Path:
    return Path(shutil.copytree(run, tmp_path / NAME))


def test_the_report_opens_in_a_browser_without_a_network_and_its_console_stays_empty(copied):
    page = write_report(copied)
    found, console = look(page)
    assert console == []
    assert found["images"] >= 3
    assert found["broken"] == 0
    assert found["curves"] >= 8  # loss, five noise levels, gradient norm, speed
    assert "<b>&run" in found["text"]
    assert "script" not in found["tags"]
    text = page.read_text()
    assert not re.search(r"""(src|href|url\()=?["']?(?!data:)[a-z]+:""", text)
    assert len(text) < 5e6


def test_the_console_is_really_listened_to(copied):
    page = write_report(copied)
    picture = "<img src='https://example.org/a.png'></main>"
    page.write_text(page.read_text().replace("</main>", picture))
    found, console = look(page)
    assert found["broken"] == 1
    assert "Content Security Policy" in console[0]


def test_the_report_fits_a_phone(copied):
    found, console = look(write_report(copied), width=400)
    assert found["overflow"] <= 0
    assert console == []


def test_a_screenshot_shows_curves_and_samples(copied, tmp_path):
    with Image.open(screenshot(write_report(copied), tmp_path / "page.png")) as image:
        assert image.size == (1280, 2000)
        assert len(image.convert("RGB").getcolors(2**24)) > 100


def test_the_report_says_what_the_files_say(run, tmp_path, capsys):
    out = tmp_path / "deep" / "page.html"
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert f"Report: {out}" in capsys.readouterr().out
    text, record = out.read_text(), read_record(run)
    scores = json.loads((run / "scores.json").read_text())["scores"]
    for name, row in scores.items():
        assert f"<h3>{name}</h3>" in text
        assert all(f"<b>{value:.4g}</b>" in text for value in row.values())
    assert f"<b>{short(record.lines[-1]['loss'])}</b>" in text
    assert "finished: 20 steps" in text
    assert [seams.step for seams in record.seams] == [10, 20]
    assert f"real data <b>{short(record.seams[-1].real)}</b>" in text
    assert "<figcaption>step 10</figcaption>" in text
    assert not (run / "report.html").exists()


def test_every_text_of_the_run_is_escaped(copied):
    evil = "<script>alert(1)</script>"
    recipe = copied / "recipe.yaml"
    recipe.write_text(f"# {evil}\n{recipe.read_text()}")
    for file, key in (("environment.json", "command"), ("data.json", "channels")):
        content = json.loads((copied / file).read_text())
        content[key] = [evil] if isinstance(content[key], list) else evil
        (copied / file).write_text(json.dumps(content))
    scores = json.loads((copied / "scores.json").read_text())
    scores["scores"][evil] = {"generated": 1.0, evil: 2.0}
    (copied / "scores.json").write_text(json.dumps(scores))
    text = write_report(copied).read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)") >= 4


def test_a_run_is_warned_of_in_its_log_and_in_its_report(tmp_path, capsys):
    path = make_run(
        tmp_path,
        train={"ema": [{"power": 0.27}]},
        standardization={"mode": "none"},
        flow={"noise_scale": 20, "time": "uniform", "t_eps": 0.001},
    )
    in_log = re.findall("Warning: (.*)", capsys.readouterr().out)
    in_report = judge(read_record(path)).concerns
    names = ["spread", "noise scale", "average", "one noise level"]
    assert [concern.name for concern in in_report] == names
    for concern, text in zip(in_report[:3], in_log, strict=False):
        assert text == f"{concern.found} {concern.cure}"
    assert len(in_log) == 4  # each once, the last when the log had seen enough
    assert "% of the loss come from times t in 0.8-1.0" in in_log[3]
    text = write_report(path).read_text()
    assert all(f"<h3>{name.capitalize()}</h3>" in text for name in names)
    assert str(coded(in_report[0].found)) in text


def test_a_run_that_is_well_is_not_warned_of(tmp_path, capsys):
    found = judge(read_record(make_run(tmp_path)))
    assert found.concerns == []
    assert len(found.well) >= 4
    assert "Warning" not in capsys.readouterr().out


def test_bad_scores_are_warned_of_where_they_are_printed_and_in_the_report(copied, capsys):
    content = json.loads((copied / "scores.json").read_text())
    scores = content["scores"]
    scores["seam"] = {"generated": 1.6, "real held-out": 1.0}
    scores["neighbours/copies"] = {"generated": 0.4, "real held-out": 0.0}
    (copied / "scores.json").write_text(json.dumps(content))
    names = [concern.name for concern in score_concerns(scores)]
    assert names == ["seams", "memorization"]
    text = write_report(copied).read_text()
    assert "1.6, 1 of real data" in text
    assert "40.0% of the samples are copies" in text


def test_a_run_without_anything_still_gives_a_page(copied):
    for name in ("pictures", "samples", "checkpoints"):
        shutil.rmtree(copied / name)
    for name in ("scores.json", "metrics.jsonl", "environment.json"):
        (copied / name).unlink()
    text = write_report(copied).read_text()
    assert "begun: no step of 20" in text
    for words in ("No picture yet", "No scores yet", "there are no curves"):
        assert words in text
    assert "memorization: no score of it" in text


def test_an_unfinished_run_says_how_far_it_came(copied):
    lines = (copied / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copied / "metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:30])  # killed here
    shutil.rmtree(copied / "checkpoints")
    assert "step 10 of 20" in write_report(copied).read_text()


def test_a_large_loss_is_written_without_powers_of_ten(copied):
    log = copied / "metrics.jsonl"
    *before, last = log.read_text().splitlines()
    last = json.dumps(json.loads(last) | {"loss": 47_210.0})
    log.write_text("\n".join([*before, last]) + "\n")
    assert "→ 47.2k</dd>" in write_report(copied).read_text()


def test_an_export_gives_a_page_without_a_log(run, tmp_path):
    out = tmp_path / "export"
    export(run, out, say=lambda text: None)
    text = write_report(out).read_text()
    assert "an export" in text
    assert "no curves" not in text


def test_what_is_no_run_is_a_clear_error(copied, tmp_path, capsys):
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "There is no run" in capsys.readouterr().err
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.json").write_text("{}")
    assert main(["report", str(tmp_path / "study")]) == 2
    assert "one of its cells" in capsys.readouterr().err
    assert main(["report", str(copied), "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
    (copied / "scores.json").write_text("{")
    assert main(["report", str(copied)]) == 2
    assert "scores.json is damaged" in capsys.readouterr().err


def test_what_is_no_number_is_an_error_or_left_out(copied, capsys):
    log = copied / "metrics.jsonl"
    lines = read_record(copied).lines
    ends = '{"step": 20, "loss": "low"}\n{"step": null}\n{"step": "x"}\n{"step": NaN}\n'
    log.write_text(log.read_text() + ends)
    assert read_record(copied).lines == lines
    assert main(["report", str(copied)]) == 0
    scores = json.loads((copied / "scores.json").read_text())
    for row in ({"generated": None}, 3.0):
        scores["scores"]["seam"] = row
        (copied / "scores.json").write_text(json.dumps(scores))
        assert main(["report", str(copied)]) == 2
        assert "scores.json is damaged (`seam` holds" in capsys.readouterr().err
    (copied / "scores.json").unlink()
    for means in ({"nats": {"mean": 1.0}}, {"nats": 3}, [1]):
        (copied / "likelihood.json").write_text(json.dumps({"means": means}))
        assert main(["report", str(copied)]) == 2
        assert "likelihood.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("width", [400, 760, 1280])
def test_letters_of_all_charts_have_the_size_of_the_text_around_them(copied, width):
    page = write_report(copied)
    (figure,) = re.findall(r'<figure class="card chart">.*?</figure>', page.read_text(), re.S)[:1]
    before = page.read_text().partition('<div class="charts">')[0]
    for num in (1, 2, 3):  # the last of an odd number is as wide as two
        charts = f'<div class="charts">{figure * num}</div>'
        page.write_text(f"{before}{charts}</section></main></body></html>")
        found, _ = look(page, width)
        assert len(found["letters"]) > 5 * num
        assert all(8 < height < 20 for height in found["letters"])


def test_pictures_stay_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (2000, 3000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    picture = embed(tmp_path / "noise.png", "noise", 1100)
    assert picture.width <= 1100
    assert len(picture.data) < 1.4 * MAX_BYTES
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    assert embed(tmp_path / "damaged.png", "damaged", 1100) is None


def test_a_long_log_is_thinned_to_means_of_neighbours():
    points = [(float(i), float(i % 2)) for i in range(10_000)]
    found = thinned(points)
    assert len(found) <= MAX_POINTS
    assert found[-1][0] == points[-1][0]
    assert np.mean([y for _, y in found]) == pytest.approx(0.5, abs=0.01)


def test_a_curve_goes_from_corner_to_corner():
    chart = Chart("up", "", [Series("y", [(0, 0.0), (10, 1.0)])], from_zero=True)
    places = re.findall(r"([\d.]+),([\d.]+)", chart.svg.partition("points=")[2])[:2]
    (x0, y0), (x1, y1) = [tuple(map(float, place)) for place in places]
    assert x0 < x1
    assert y0 > y1  # SVG counts downwards


@pytest.mark.parametrize("scale", [Scale(0, 7.3), Scale(-2e-5, 3e-5), Scale(0.01, 50, is_log=True)])
def test_ticks_are_few_and_inside(scale):
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 9
    assert all(scale.low <= tick <= scale.high for tick in ticks)


def test_numbers_at_ticks_are_those_of_the_ticks():
    assert tick_texts([1.05, 1.075, 1.1]) == ["1.05", "1.075", "1.1"]
    assert tick_texts([0, 500_000, 1_000_000]) == ["0", "500k", "1M"]
    assert tick_texts([1234.5, 1235, 1235.5]) == ["1,234.5", "1,235.0", "1,235.5"]
    assert max(map(len, tick_texts([12_345_678, 12_345_679]))) <= 8  # what the margin holds


def test_numbers_far_apart_stand_on_a_logarithmic_scale():
    assert scale_of([1.0, 100.0]).is_log
    assert not scale_of([1.0, 1.5]).is_log
    assert not scale_of([-1.0, 100.0]).is_log
    assert scale_of([3.0, 3.0]).place(3.0) == pytest.approx(0.5)


def test_numbers_and_times_are_written_short():
    assert [short(n) for n in (0, 0.51167, 855.2, 1234, 76_800, 1.34e6, 2e9)] == [
        "0", "0.512", "855", "1,234", "76.8k", "1.34M", "2G",
    ]  # fmt: skip
    assert [clock(s) for s in (90, 1740, 12_000, 202_000)] == [
        "90 s",
        "29 min",
        "3 h 20 min",
        "2 d 8 h",
    ]
