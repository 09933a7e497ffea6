"""The JSON Schema that editors use says what a profile may hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from privynet.device_profiles import CATALOGUE, METRICS, DeviceProfile, catalogue, profile_schema
from privynet.toolkit.main import main

SCHEMA = profile_schema()


def described(node: dict[str, Any], value: Any, key: str) -> Iterator[str]:
    """What of a value a part of the schema does not allow: the few keywords that ours has, by hand."""
    if "$ref" in node:
        node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
    if node.get("type") == "object":
        known = node.get("properties", {})
        for name, inner in value.items():
            patterns = list(node.get("patternProperties", {}).values())
            if name in known or patterns:
                yield from described(known.get(name) or patterns[0], inner, f"{key}.{name}")
            elif node.get("additionalProperties") is False:
                yield f"{key}.{name} is not known"
        yield from (f"{key}.{name} is missing" for name in node.get("required", ()) if name not in value)
    elif "const" in node:
        yield from [] if value == node["const"] else [f"{key} is {value}"]
    elif node.get("type") == "number":
        yield from (
            [] if isinstance(value, float) and value >= node.get("minimum", 0) else [f"{key} is {value}"]
        )


@pytest.mark.parametrize("profile", catalogue(), ids=lambda profile: profile.name)
def test_the_catalogue_is_as_described(profile: DeviceProfile) -> None:
    document = profile.document()
    assert list(described(SCHEMA, document, "")) == []
    document["cores"] |= {"unit": "core", "more": 1}
    del document["threads"]["source"]
    assert list(described(SCHEMA, document, "")) == [
        ".cores.unit is core",
        ".cores.more is not known",
        ".threads.source is missing",
    ]


def test_every_metric_is_described_with_its_unit() -> None:
    limits = SCHEMA["$defs"]["ProfileLimits"]["properties"]
    assert list(limits) == list(METRICS)
    assert all(metric.unit in limits[name]["description"] for name, metric in METRICS.items())


def test_nothing_is_null_and_no_table_is_open() -> None:
    text = repr(SCHEMA)
    assert "null" not in text and "None" not in text
    tables = [node for node in (SCHEMA, *SCHEMA["$defs"].values()) if node["type"] == "object"]
    assert all(node["additionalProperties"] is False for node in tables)


def test_the_shipped_file_is_what_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "schema"]) == 0
    shipped = (CATALOGUE.parent / "profile.schema.json").read_text(encoding="utf-8")
    assert capfd.readouterr().out == shipped
