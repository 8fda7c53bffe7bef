"""What is wrong with the keys of a recipe, in plain words, with the nearest right key."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import get_args

from pydantic import BaseModel, ValidationError

PLAIN_WORDS = {
    "model_type": "must be a section of `key: value` lines",
    "is_instance_of": "must be a section of `key: value` lines with a `name`",
    "dict_type": "must be a section of `key: value` lines",
    "tuple_type": "must be a list such as [1, 2]",
    "too_short": "must not be empty",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "path_type": "must be a path",
}


class WrongKeysError(ValueError):
    """Keys of a plug-in's section are wrong; the section lies at `place` in what is validated."""

    def __init__(
        self, error: ValidationError, plugin: type[BaseModel], place: tuple[str, ...] = ()
    ) -> None:
        super().__init__("; ".join(explain(error, plugin, place)))
        self.error, self.plugin, self.place = error, plugin, place


def explain(
    error: ValidationError,
    root: type[BaseModel],
    prefix: tuple[str, ...] = (),
    without: Collection[str] = (),
) -> list[str]:
    """What is wrong with the keys of `root`, one line each, with the nearest right key.

    What is wrong in the sections `without` is left out.
    """
    return list(_problems(error, root, prefix, without))


def _problems(
    error: ValidationError, root: type[BaseModel], prefix: tuple[str, ...], without: Collection[str]
) -> Iterator[str]:
    wrong: dict[str, list[str]] = {}  # a key of several types has a problem for each of them
    for detail in error.errors():
        location = detail["loc"]
        if location and location[0] in without:
            continue
        if detail["type"] not in ("extra_forbidden", "missing"):
            location = _without_types(location, root)
        key = ".".join(str(part) for part in (*prefix, *location))
        inner = detail.get("ctx", {}).get("error")
        if isinstance(inner, WrongKeysError):
            place = (*prefix, *map(str, location), *inner.place)
            yield from explain(inner.error, inner.plugin, place)
        elif detail["type"] == "extra_forbidden":
            known = _fields(root, location[:-1])
            near = difflib.get_close_matches(str(location[-1]), known, n=1)
            there = f"there are: {', '.join(known)}." if known else "there are none."
            hint = f"did you mean `{near[0]}`?" if near else there
            yield f"`{key}` is not a key; {hint}"
        elif detail["type"] == "missing":
            yield f"`{key}` is missing."
        elif detail["type"] == "model_type" and isinstance(detail.get("input"), BaseModel):
            made = type(detail["input"])  # by an entry point in the wrong group
            yield (
                f"`{key}` must be of the kind {detail['ctx']['class_name']}, but its plug-in is "
                f"{made.__module__}.{made.__qualname__}; mend the entry points of that package."
            )
        else:
            message = PLAIN_WORDS.get(detail["type"], detail["msg"].removeprefix("Value error, "))
            found = detail.get("input")
            seen = "" if isinstance(found, dict | BaseModel) else f" (found {found!r:.60})"
            at = f"`{key}`: " if key else ""  # nothing where keys do not agree with each other
            wrong.setdefault(f"{at}{{}}{seen}", []).append(message)
    yield from (text.replace("{}", ", or ".join(found)) for text, found in wrong.items())


def _without_types(location: tuple[int | str, ...], root: type[BaseModel]) -> tuple[int | str, ...]:
    """A place without the names that pydantic adds for the types of a union."""
    kept: tuple[int | str, ...] = ()
    for part in location:
        if isinstance(part, int) or part in _fields(root, kept):
            kept = (*kept, part)
    return kept


def _fields(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are allowed at a place in a recipe."""
    model = root
    for part in location:
        if not (field := model.model_fields.get(str(part))):
            continue  # an index into a list
        candidates = [field.annotation, *get_args(field.annotation)]
        candidates += [inner for one in candidates for inner in get_args(one)]
        inside = (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
        model = next(inside, model)
    return list(model.model_fields)
