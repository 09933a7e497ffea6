"""A profile's format as JSON Schema, for editors and other tools; shipped as ``profile.schema.json``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ..metrics import METRICS
from .schema import DeviceProfile, ProfileLimits
from .toml_lines import KeyPath

SCHEMA_FILE = Path(__file__).parents[1] / "profile.schema.json"


@functools.cache
def profile_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a device profile.

    It says less than :func:`validate_profile`: nothing that compares one key with another.
    """
    schema = DeviceProfile.model_json_schema(by_alias=True, schema_generator=_TomlSchema)
    limits = schema["$defs"][ProfileLimits.__name__]["properties"]
    for metric in METRICS.values():
        limits[metric.name]["description"] = f"{metric.meaning}; in {metric.unit}"
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "privynet device profile"}


def keys_at(path: KeyPath) -> list[str]:
    """The keys that the table at ``path`` of a profile may have; none where it is no table of fixed keys."""
    node = _followed(profile_schema())
    for part in path:
        if isinstance(part, int):
            inner = node.get("items", {})
        elif part in node.get("properties", {}):
            inner = node["properties"][part]
        else:
            inner = next(iter(node.get("patternProperties", {}).values()), {})
        node = _followed(inner)
    return list(node.get("properties", {}))


def _followed(node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        node = profile_schema()["$defs"][node["$ref"].rpartition("/")[2]]
    return node


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null, and a table takes no other keys than those that are described."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        return {key: value for key, value in found.items() if key != "default" or value is not None}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        return {**found, "additionalProperties": False} if "patternProperties" in found else found

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
