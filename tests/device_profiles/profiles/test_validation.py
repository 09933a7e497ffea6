"""What a damaged profile gets: every finding, on its line. The files are changed copies of shipped ones."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from privynet.device_profiles import CATALOGUE, METRICS, catalogue, load_profile, validate_profile
from privynet.errors import InputError

KeyPath = tuple[str, ...]
Document = dict[str, Any]

TEXT = (CATALOGUE / "raspberry-pi-4b.toml").read_text(encoding="utf-8")
REQUIRED = ("median_error", "p90_error", "max_error", "model_factor")
"""What a table of coefficients needs."""


def findings_of(text: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.toml"
        path.write_text(text, encoding="utf-8")
        return validate_profile(path)


def value_text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {value_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value)


def write(document: Document, *, inline: bool) -> tuple[str, dict[KeyPath, int]]:
    """A profile's text and the line of every key: in the catalogue's style, or a header for every table."""
    lines: list[str] = []
    places: dict[KeyPath, int] = {(): 1}

    def within(value: Any, path: KeyPath) -> None:
        places[path] = len(lines)
        for key, inner in value.items() if isinstance(value, dict) else ():
            within(inner, (*path, key))

    def table(section: Document, path: KeyPath) -> None:
        if path:
            lines.append(f"[{'.'.join(path)}]  # a comment")
            places[path] = len(lines)
        deeper = {
            key: value
            for key, value in section.items()
            if isinstance(value, dict) and value and not (inline and {"unit", "reason"} & value.keys())
        }
        for key, value in section.items():
            if key not in deeper:
                lines.append(f"{key} = {value_text(value)}")
                within(value, (*path, key))
        for key, value in deeper.items():
            table(value, (*path, key))

    table(document, ())
    return "\n".join(lines), places


def paths(section: Document, path: KeyPath = ()) -> Iterator[KeyPath]:
    for key, value in section.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from paths(value, (*path, key))


def changed(document: Document, path: KeyPath, change: Callable[[Document, str], Document]) -> Document:
    """A copy in which ``change`` has been at the table that holds the key at ``path``."""
    if len(path) == 1:
        return change(copy.deepcopy(document), path[0])
    return {**document, path[0]: changed(document[path[0]], path[1:], change)}


def is_optional(path: KeyPath) -> bool:
    """Whether a key may be left out."""
    if path[:2] == ("latency", "float32"):
        return len(path) == 3 or (len(path) == 4 and path[-1] not in REQUIRED)
    return path == ("limits",) or path[:-1] == ("limits",) or path == ("latency", "runtime_factor")


documents = st.sampled_from([profile.document() for profile in catalogue()])
styles = st.booleans()


@settings(deadline=None, max_examples=40)
@given(documents, st.data(), styles)
def test_a_key_that_is_left_out_is_named_on_the_line_of_its_table(
    document: Document, data: st.DataObject, inline: bool
) -> None:
    path = data.draw(st.sampled_from([path for path in paths(document) if not is_optional(path)]))
    text, places = write(
        changed(document, path, lambda table, key: {k: v for k, v in table.items() if k != key}),
        inline=inline,
    )
    (finding,) = findings_of(text)
    assert (finding["code"], finding["line"]) == ("missing-key", places[path[:-1]])
    assert f"key {'.'.join(path)} is missing" in finding["message"]


@settings(deadline=None, max_examples=40)
@given(documents, st.data(), styles)
def test_a_key_that_is_misspelt_is_named_on_its_line_with_the_right_one(
    document: Document, data: st.DataObject, inline: bool
) -> None:
    path = data.draw(st.sampled_from([*paths(document)]))
    key = path[-1]
    misspelt = data.draw(st.sampled_from([f"{key}x", f"x{key}", key[1:] + key[:1], key.upper()]))
    assume(misspelt != key)
    text, places = write(
        changed(
            document, path, lambda table, key: {misspelt if k == key else k: v for k, v in table.items()}
        ),
        inline=inline,
    )
    place = places[(*path[:-1], misspelt)]
    findings = findings_of(text)
    assert {finding["line"] for finding in findings if finding["severity"] == "error"} == {place}
    if path[:-1] == ("latency", "float32"):
        return
    assert [finding["code"] for finding in findings if finding["severity"] == "error"] == ["unknown-key"]
    assert f"unknown key {'.'.join((*path[:-1], misspelt))}; did you mean {key}?" in findings[0]["message"]


@settings(deadline=None, max_examples=40)
@given(documents, st.data(), styles)
def test_a_value_of_the_wrong_type_is_named_on_its_line(
    document: Document, data: st.DataObject, inline: bool
) -> None:
    path = data.draw(st.sampled_from([*paths(document)]))
    old = document
    for key in path:
        old = old[key]
    kinds: list[Any] = [True, [], [1], {"a": 1}, float("nan"), float("inf")]
    kinds += [5] if not isinstance(old, int | float) else []
    kinds += ["4"] if not isinstance(old, str) else []
    wrong = data.draw(st.sampled_from(kinds))
    text, places = write(changed(document, path, lambda table, key: {**table, key: wrong}), inline=inline)
    findings = findings_of(text)
    assert {finding["line"] for finding in findings} <= {places[path], places.get((*path, "a"))}
    assert any(finding["severity"] == "error" for finding in findings)
    assert all("\n" not in finding["message"] for finding in findings)


@settings(deadline=None, max_examples=40)
@given(documents, st.data(), st.floats(min_value=-1e9, max_value=-1e-6), styles)
def test_a_negative_figure_is_refused_on_its_line(
    document: Document, data: st.DataObject, negative: float, inline: bool
) -> None:
    path = data.draw(st.sampled_from([p for p in paths(document) if p[-1] in ("value", "low", "high")]))
    text, places = write(changed(document, path, lambda table, key: {**table, key: negative}), inline=inline)
    (finding,) = findings_of(text)
    assert (finding["code"], finding["line"]) == ("negative-figure", places[path])


@settings(deadline=None, max_examples=40)
@given(documents, st.data(), st.sampled_from(["GB", "ns", "", "MS"]), styles)
def test_a_wrong_unit_is_named_on_its_line_with_the_right_one(
    document: Document, data: st.DataObject, unit: str, inline: bool
) -> None:
    path = data.draw(st.sampled_from([path for path in paths(document) if path[-1] == "unit"]))
    old = document
    for key in path:
        old = old[key]
    text, places = write(changed(document, path, lambda table, key: {**table, key: unit}), inline=inline)
    (finding,) = findings_of(text)
    assert finding["line"] == places[path]
    assert f"unit {unit} is not allowed, give it in {old}" in finding["message"]


def test_an_unknown_key_that_is_near_to_none_is_told_which_there_are() -> None:
    (finding,) = findings_of(TEXT.replace("kind =", 'remark = "x", kind =', 1))
    assert finding["message"] == "unknown key cores.remark; known here: value, unit, source, kind"


def test_the_nearest_key_is_one_of_the_same_table() -> None:
    """``runtime`` is a key of the profile, ``runtime_factor`` one of its latency model."""
    (finding,) = findings_of(TEXT.replace("\nruntime_factor", "\nruntime_facto"))
    assert "did you mean runtime_factor?" in finding["message"]
    (finding,) = findings_of(TEXT.replace("\nruntime =", "\nruntimes ="))
    assert "did you mean runtime?" in finding["message"]


def replaced(old: str, new: str) -> str:
    assert TEXT.count(old) >= 1
    return TEXT.replace(old, new, 1)


def line_with(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), start=1) if part in line)


@pytest.mark.parametrize(
    ("old", "new", "told", "on"),
    [
        (
            "latency_ms = { value = 50",
            "latency_ms = { value = 0",
            "limits.latency_ms.value: ",
            "latency_ms =",
        ),
        (
            "threads = { value = 4",
            "threads = { value = 5",
            "threads: more threads than cores (4)",
            "threads =",
        ),
        (
            "threads = { value = 4",
            "threads = { value = 3",
            "no entry for the profile's 3",
            "[latency.float32.1]",
        ),
        ("cores = { value = 4", "cores = { value = 4.5", "cores.value: must be a whole number", "cores ="),
        ("[latency.float32.4]", "[latency.float32.four]", "latency.float32.four", "[latency.float32.four]"),
        ("low = 1.5", "low = 1.9", "latency.runtime_factor: low <= value <= high does not hold", "low = 1.9"),
        (
            "schema_version = 2",
            "schema_version = 1",
            "schema_version: input should be 2, not 1",
            "schema_ver",
        ),
        ('class = "board"', 'class = "toaster"', "class: input should be 'board' or 'phone'", "class ="),
        ('name = "raspberry-pi-4b"', 'name = "../x"', "name: ", "name ="),
        ('kind = "published"', 'kind = "guessed"', "cores.kind: input should be", "cores ="),
        ("\n[limits]\n", "\n[limits]\nlatency = 3\n", "did you mean latency_ms?", "latency = 3"),
        ("\n[limits]\n", "\n[limits]\nmacs = 3\n", "limits.macs is 3, but must be a table", "macs = 3"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(old: str, new: str, told: str, on: str, tmp_path: Path) -> None:
    text = replaced(old, new)
    (finding,) = findings_of(text)
    assert told in finding["message"]
    assert finding["line"] == line_with(text, on)
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"mine\.toml:{finding['line']}: "):
        load_profile(str(path))


def test_all_findings_come_at_once_by_line() -> None:
    text = replaced("title =", "titel =")
    for old, new in (
        ('unit = "cores", source = "Raspberry Pi Ltd, product page"', 'unit = "core"'),
        ("threads = { value = 4", "threads = { value = 4.5"),
        ("peak_ram_kb = { value = 10240", "peak_ram_kb = { value = -1"),
        ("latency_ms = { value = 50", "latency_ms = { value = 0"),
        ("low = 1.5", "low = 1.9"),
        ("[latency.float32.1]", "[latency.float32.1]\nmore = 1"),
    ):
        assert old in text
        text = text.replace(old, new)
    findings = findings_of(text)
    assert [finding["code"] for finding in findings] == [
        "unknown-key",  # titel
        "wrong-unit",
        "missing-key",  # the source of the cores
        "bad-value",  # threads
        "negative-figure",
        "bad-value",  # latency_ms
        "bad-value",  # the order of the runtime's factor
        "unknown-key",
    ]
    assert [finding["line"] for finding in findings] == sorted(finding["line"] for finding in findings)


def test_a_figure_without_its_source_is_no_figure(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    lines = ["cores = 4" if line.startswith("cores =") else line for line in TEXT.splitlines()]
    path.write_text("\n".join(lines), encoding="utf-8")
    place = lines.index("cores = 4") + 1
    with pytest.raises(InputError, match=rf"mine\.toml:{place}: cores is 4, but must be a table"):
        load_profile(str(path))


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a = 1\nb = cores\n", 2, "not TOML: invalid value"),
        ("a = 1\n\nb = [1,\n", 3, "not TOML: "),
        ("", 1, "key schema_version is missing"),
        ("a = 1\n[b]\nc = 1\nc = 2\n", 4, "b.c is given twice, first on line 3"),
        ("[b]\nc = 1\n[d]\n[b]\n", 4, "b is given twice, first on line 1"),
        ("b = { c = 1, c = 2 }\n", 1, "b.c is given twice, first on line 1"),
        ("a.b = 1\n[a]\n", 2, "not TOML: cannot declare"),
        ("a = " + "[" * 5000, 1, "nested too deeply"),
    ],
)
def test_text_that_is_not_toml_names_the_line(text: str, line: int, told: str) -> None:
    finding = findings_of(text)[0]
    assert finding["line"] == line
    assert told in finding["message"]


def test_every_key_that_is_given_twice_is_told() -> None:
    findings = findings_of("a = 1\na = 2\n[t]\nb = 1\nb = 2\n")
    assert [(finding["code"], finding["line"]) for finding in findings] == [
        ("given-twice", 2),
        ("given-twice", 5),
    ]


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=60))
def test_no_text_is_more_than_a_list_of_findings(text: str) -> None:
    assume(text.isprintable() or "\n" in text)
    for finding in findings_of(text):
        assert finding["line"] >= 1
        assert finding["message"]


@pytest.mark.parametrize("metric", METRICS)
def test_a_profile_may_limit_any_of_the_nine_metrics(metric: str, tmp_path: Path) -> None:
    lines = [line for line in TEXT.splitlines() if not line.startswith(metric)]
    lines.insert(lines.index("[limits]") + 1, f'{metric} = {{ value = 0.3, reason = "faces" }}')
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    profile = load_profile(str(path))
    assert profile.limits[metric] == 0.3
    assert profile.limit_reasons[metric] == "faces"
    path.write_text("\n".join(lines).replace("value = 0.3,", "value = 0,"), encoding="utf-8")
    allowed = METRICS[metric].privacy
    assert [finding["severity"] for finding in validate_profile(path)] == ([] if allowed else ["error"])


@pytest.mark.parametrize(
    ("limits", "code", "line"),
    [
        ({}, "no-limits", 1),
        ({"latency_ms": 1e-3}, None, None),
        ({"peak_ram_kb": 1025 * 1024}, "more-than-memory", 2),
        ({"r2": 0.5, "weights_kb": 1025 * 1024}, "more-than-memory", 3),
        ({"ssim": 1.0}, "limits-nothing", 2),
        ({"psnr_db": 60}, "limits-nothing", 2),
    ],
)
def test_what_is_hardly_meant_is_warned_of(
    limits: dict[str, float], code: str | None, line: int | None
) -> None:
    document = {
        key: value for key, value in load_profile("raspberry-pi-4b").document().items() if key != "limits"
    }
    text, _ = write(document, inline=True)
    head, latency = text.split("[latency]", 1)
    own = "".join(f'{metric} = {{ value = {value}, reason = "x" }}\n' for metric, value in limits.items())
    start = head.count("\n")
    findings = findings_of(f"{head}[limits]\n{own}[latency]{latency}")
    assert [(finding["code"], finding["severity"], finding["line"] - start) for finding in findings] == (
        [(code, "warning", line)] if code else []
    )


def test_a_latency_that_no_network_can_reach_is_warned_of() -> None:
    text = replaced(
        "[latency.float32.4]\n",
        "[latency.float32.4]\n"
        'per_run_overhead = { value = 60, unit = "ms", source = "a clock", kind = "measured" }\n',
    )
    (finding,) = findings_of(text)
    assert (finding["code"], finding["severity"]) == ("cannot-be-met", "warning")
    assert finding["line"] == line_with(text, "latency_ms =")
