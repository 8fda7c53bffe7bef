"""The base of everything that a recipe can set: frozen, validated, no unknown key."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


class Settings(BaseModel):
    """Fields are the keys that a recipe may write; an unknown key is an error.

    The text under a field is its description, in docs and editors. It ends with the unit of a
    number, such as `[samples]`, or with `[-]` where it has none.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="after")
    @classmethod
    def _expand_home(cls, value: Any) -> Any:
        """A shell does not expand the ~ of `key=~/folder`."""
        return value.expanduser() if isinstance(value, Path) else value
