"""`rawdiff new adapter NAME`: a small package that installs, keeps its promises, trains."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from string import Template

from rawdiff.errors import UserError
from rawdiff.files import require_new_folder, write_text
from rawdiff.plugins import Kind, plugins

TEMPLATE = Path(__file__).parent / "adapter"
SUFFIX = ".template"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
BOTH: tuple[Kind, ...] = ("adapters", "datasets")
"""What the package registers under its name."""


def new_adapter(name: str, folder: Path | None = None) -> Path:
    """Write a package with an adapter and a dataset of generated samples; returns its folder.

    The folder, by default of that name, must be new or empty. The package is called `rawdiff_NAME`.
    UserError for a name that cannot be used, or that is taken.
    """
    _require_usable(name)
    folder = Path(name) if folder is None else folder.expanduser()
    require_new_folder(folder)
    words = {"name": name, "Name": "".join(part.capitalize() for part in name.split("_"))}
    for source in sorted(TEMPLATE.rglob(f"*{SUFFIX}")):
        place = str(source.relative_to(TEMPLATE)).removesuffix(SUFFIX)
        place = place.replace("package", f"rawdiff_{name}").replace("NAME", name)
        write_text(folder / place, Template(source.read_text(encoding="utf-8")).substitute(words))
    return folder


def _require_usable(name: str) -> None:
    if not NAME.fullmatch(name):
        words = re.findall(r"[a-z0-9]+", name.lower())
        near = "_".join(words).lstrip("0123456789_")
        hint = f", such as `{near}`" if near else ""
        raise UserError(
            f"`{name}` cannot name a plug-in and its package: take lower-case letters, digits and "
            f"single underscores, with a letter first{hint}."
        )
    for kind in BOTH:
        for plugin in plugins(kind):
            if plugin.name == name:
                raise UserError(
                    f"`{name}` is taken: {plugin.package} brings it to rawdiff.{kind} "
                    f"({plugin.target}). Take another name."
                )
    if (found := find_spec(f"rawdiff_{name}")) is not None and found.origin is not None:
        raise UserError(
            f"A package `rawdiff_{name}` is installed already ({found.origin}). Take another name."
        )
