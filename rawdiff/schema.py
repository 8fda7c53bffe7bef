"""The JSON schema of a recipe: what editors read, and what the page of all keys is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from rawdiff.plugins import KINDS, plugin_section, plugins
from rawdiff.recipe import Recipe


class _Generate(GenerateJsonSchema):
    """Writes a plug-in that is a default as a recipe would."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            target = f"{type(dft).__module__}:{type(dft).__qualname__}"
            for kind in KINDS:
                if target in (plugin.target for plugin in plugins(kind)):
                    return plugin_section(kind, dft)
        return super().encode_default(dft)


def full_schema() -> dict[str, Any]:
    """JSON schema of a recipe with the keys of all installed plug-ins; says which are required."""
    schema = Recipe.model_json_schema(schema_generator=_Generate)
    extends = {"type": "string", "default": None, "description": "A recipe to start from."}
    schema["properties"] = {"extends": extends, **schema["properties"]}
    return schema


def recipe_schema() -> dict[str, Any]:
    """The same for editors: a recipe that extends another need not repeat its keys."""
    schema: dict[str, Any] = _without_required(full_schema())
    return schema


def _without_required(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_required(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {key: _without_required(value) for key, value in part.items()}
    if isinstance(part.get("required"), list):  # of a key of that name it is a dict
        del kept["required"]
    return kept
