"""The page itself: one HTML file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from rawdiff.errors import UserError
from rawdiff.files import write_text
from rawdiff.report import course, facts, pictures, scores
from rawdiff.report.concerns import judge
from rawdiff.report.record import Record, read_record

HERE = Path(__file__).parent
PAGE = "report.html"


def write_report(run: str | Path, out: Path | None = None) -> Path:
    """Write the report of a run or an export; returns its path (default: in the run's folder).

    UserError if there is no run, a file of it is damaged, or the report cannot be written.
    """
    record = read_record(run)
    path = record.folder.path / PAGE if out is None else out.expanduser()
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a file for the report, such as {path / PAGE}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(record))
    return path


def render(record: Record) -> str:
    """The whole page; every text of the run is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"coded": coded, "percent": percent}
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html").render(style=style, **_content(record))


def coded(text: str) -> Markup:
    """Escaped, with what stands between backticks as code."""
    parts = (escape(part) for part in text.split("`"))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts)
    )


def percent(share: float) -> str:
    """ "46 %", and "0.3 %" where it is small."""
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def _content(record: Record) -> dict[str, Any]:
    cost = facts.cost_of(record)
    kind, status = facts.status(record)
    name = record.folder.path.resolve().name
    num_steps = record.recipe.train.num_steps
    return {
        "name": name,
        "sentence": facts.sentence(record, cost),
        "status_kind": kind,
        "status": status,
        "progress": 100 * min(record.step / num_steps, 1) if kind != "export" else None,
        "tiles": facts.tiles(record),
        "judgement": judge(record),
        "newest": pictures.newest(record),
        "over_training": pictures.over_training(record),
        "charts": course.charts(record),
        "shares": course.shares(record),
        "boards": scores.boards(record),
        "pages": sorted(map(str, record.folder.path.glob("scores/*/index.html"))),
        "likelihood": _likelihood(record.means),
        "calibration": record.calibration.get("verdict", ""),
        "tuned": record.tuned,
        "tuning": pictures.tuning(record),
        "groups": facts.groups(record, cost),
        "recipe": (record.folder.path / "recipe.yaml").read_text(encoding="utf-8"),
        "run": str(record.folder.path),
        "version": record.environment.get("rawdiff", ""),
    }


def _likelihood(means: Mapping[str, Mapping[str, float]]) -> list[facts.Fact]:
    names = {"nats": "log p, nats", "bits_per_dim": "bits per dimension"}
    return [
        facts.Fact(names.get(name, name), f"{row['mean']:.5g} ± {row['standard_error']:.2g}")
        for name, row in means.items()
    ]
