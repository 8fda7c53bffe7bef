"""The recipes that come with rawdiff."""

from __future__ import annotations

from pathlib import Path


def recipe_folder() -> Path:
    """The recipes that come with rawdiff: in a clone its `recipes/`, else inside the wheel."""
    package = Path(__file__).parent
    return next(
        (folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()),
        package / "recipes",
    )


def built_in_recipes() -> dict[str, Path]:
    return {path.stem: path for path in sorted(recipe_folder().glob("*.yaml"))}
