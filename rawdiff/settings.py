"""The base of everything that a recipe can set: frozen, validated, no unknown key."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


class Settings(BaseModel):
    """Fields are the keys that a recipe may write; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _expand_home(cls, value: Any) -> Any:
        """A shell does not expand the ~ of `key=~/folder`."""
        return value.expanduser() if isinstance(value, Path) else value
