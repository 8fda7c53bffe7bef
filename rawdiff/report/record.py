"""All that a run has left for a person to look at, read from its folder alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rawdiff.data.dataset import DataInfo
from rawdiff.data.statistics import Statistics
from rawdiff.errors import UserError
from rawdiff.evaluate.report import Report
from rawdiff.recipe import Recipe
from rawdiff.saved import checkpoint
from rawdiff.saved.folder import RunFolder
from rawdiff.train.log import read_metrics
from rawdiff.train.preview import read_seams
from rawdiff.tuned import Tuned, read_tuned
from rawdiff.warn.samples import Seams


@dataclass(frozen=True)
class Scores:
    """What one call of `rawdiff eval` found; `origin` says of which samples."""

    report: Report
    origin: Mapping[str, Any]

    @property
    def title(self) -> str:
        """ "step 600, power_0.1, 25 heun steps": what the scored samples were."""
        sample = self.origin.get("sample") or {}
        step, weights = self.origin.get("step"), self.origin.get("weights")
        parts = [
            f"step {step:,}" if isinstance(step, int) else "",
            str(weights or ""),
            f"{sample['num_steps']} {sample['solver']} steps" if "solver" in sample else "",
            f"guidance {sample['cfg_scale']:g}" if sample.get("cfg_scale", 1) != 1 else "",
        ]
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Record:
    """A run or an export, as its files tell it; what is not there is empty or None."""

    folder: RunFolder
    recipe: Recipe
    info: DataInfo
    statistics: Statistics
    environment: Mapping[str, Any]
    lines: list[dict[str, float]]
    """Of the log, oldest first."""
    pictures: dict[int, Path]
    """Of samples, by the step at which the run drew them."""
    seams: list[Seams]
    scores: list[Scores]
    tuned: Tuned | None
    tried: list[dict[str, str]]
    """The rows of `rawdiff tune`, the best first."""
    means: Mapping[str, Mapping[str, float]]
    """Of the log-likelihood: by name, each with its standard error."""
    calibration: Mapping[str, Any]
    num_rollbacks: int
    last_saved: int | None
    """The step of the newest checkpoint."""

    @property
    def step(self) -> int:
        """How far the run is known to have come."""
        return max(int(self.lines[-1]["step"]) if self.lines else 0, self.last_saved or 0)

    @property
    def is_finished(self) -> bool:
        return self.step >= self.recipe.train.num_steps


def read_record(path: str | Path) -> Record:
    """What a run folder or an export holds. UserError if it is none, or a file is damaged."""
    if (Path(path).expanduser() / "study.json").is_file():
        raise UserError(f"{path} is a study; give the run of one of its cells: {path}/cells/….")
    folder = RunFolder.open(path)
    there = checkpoint.checkpoints(folder)
    pictures = {int(one.stem[5:]): one for one in folder.pictures.glob("step-*[0-9].png")}
    return Record(
        folder=folder,
        recipe=folder.recipe(),
        info=folder.info(),
        statistics=folder.statistics(),
        environment=folder.environment(),
        lines=read_metrics(folder.metrics),
        pictures=dict(sorted(pictures.items())),
        seams=read_seams(folder),
        scores=_read_scores(folder),
        tuned=read_tuned(folder),
        tried=_read_tried(folder),
        means=_read_means(folder.likelihood),
        calibration=_read(folder.calibration) if folder.calibration.is_file() else {},
        num_rollbacks=len(_read_list(folder.rollbacks)) if folder.rollbacks.is_file() else 0,
        last_saved=there[-1].step if there else None,
    )


def _read_scores(folder: RunFolder) -> list[Scores]:
    """Of all metrics first, then of those that were asked for by name."""
    found = []
    for path in sorted(folder.path.glob("scores*.json"), key=lambda path: path.stem):
        content = _read(path)
        try:
            origin = content.pop("origin", {})
            report = Report(**content)
        except TypeError as error:
            raise _damaged(path, error) from error
        _check_rows(path, report.scores)
        found.append(Scores(report, origin))
    return found


def _read_tried(folder: RunFolder) -> list[dict[str, str]]:
    path = folder.tune / "table.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read_means(path: Path) -> dict[str, dict[str, float]]:
    means = _read(path).get("means", {}) if path.is_file() else {}
    _check_rows(path, means, ("mean", "standard_error"))
    return means


def _check_rows(path: Path, rows: Any, needed: Sequence[str] = ()) -> None:
    """Numbers by name, under names; UserError if they are anything else."""
    for name, row in rows.items() if isinstance(rows, dict) else [("it", rows)]:
        whole = isinstance(row, dict) and all(key in row for key in needed)
        if not whole or not all(isinstance(v, int | float) for v in row.values()):
            raise _damaged(path, f"`{name}` holds {row!r} in place of numbers")


def _read(path: Path) -> dict[str, Any]:
    content = _read_json(path)
    if not isinstance(content, dict):
        raise _damaged(path, "it holds no keys")
    return content


def _read_list(path: Path) -> list[Any]:
    content = _read_json(path)
    return content if isinstance(content, list) else []


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: object) -> UserError:
    return UserError(
        f"{path} is damaged ({why}). Delete it; the command that wrote it makes it again."
    )
