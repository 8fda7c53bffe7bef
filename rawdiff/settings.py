"""The base of everything that a recipe can set: frozen, validated, no unknown key."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Fields are the keys that a recipe may write; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
