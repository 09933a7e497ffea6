"""``privynet defend``: what it prints and writes, and what bad input gets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from privynet.encoders import Encoder, EncoderSpec, build_encoder
from privynet.toolkit.main import main


@pytest.fixture
def folder(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a spec, what looks like an artifact, and somebody's folder."""
    monkeypatch.chdir(tmp_path)
    encoder.spec.write(tmp_path / "encoder.json")
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "manifest.json").write_text("{}")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file.txt").write_text("mine")
    return tmp_path


def command(*options: str, subject: str = "encoder.json", out: str = "out") -> list[str]:
    return ["defend", subject, "--data", "digits", "--out", out, *options]


def test_one_command_defends_and_says_what_it_did(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ("--nopeek", "0.5", "--steps", "8", "--noise-std", "0.1", "--payload-bits", "8", "--json")
    assert main(command(*options, "--accelerator", "cpu", "--seed", "3")) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["seed"] == 3 and document["schema_version"] == 1
    assert document["nopeek"]["alpha"] == 0.5 and document["noise"]["std"] == 0.1
    rebuilt = build_encoder(EncoderSpec.read(Path(document["spec"])))
    assert rebuilt.digest == document["encoder_digest"] and rebuilt.payload.bits == 8


def test_the_table_warns_against_trusting_it(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(command("--noise-share", "0.3")) == 0
    shown = capfd.readouterr().out
    assert "0.3 of the features'" in shown and "is no proof" in shown and "32 bits a value" in shown


CASES: dict[str, tuple[Sequence[str], str]] = {
    "nothing asked for": (command(), "no defence was asked for; give --nopeek"),
    "both kinds of noise": (
        command("--noise-std", "1", "--noise-share", "1"),
        "--noise-std and --noise-share exclude each other",
    ),
    "negative noise": (command("--noise-std=-1"), "--noise-std -1 is out of range"),
    "negative share": (command("--noise-share=-0.5"), "--noise-share -0.5 is out of range"),
    "negative alpha": (command("--nopeek=-1"), "--nopeek -1 is out of range"),
    "three bits": (command("--payload-bits", "3"), "allowed: 32, 8, 4, 2"),
    "no steps": (command("--nopeek", "1", "--steps", "0"), "'--steps'"),
    "an artifact": (
        command("--payload-bits", "8", subject="artifact"),
        "artifact is an artifact, which cannot be changed; name the run or the encoder.json",
    ),
    "no subject": (command("--payload-bits", "8", subject="nope"), "nope"),
    "no run": (command("--payload-bits", "8", subject="mine"), "mine is not a run folder"),
    "an --out that exists": (command("--payload-bits", "8", out="mine"), "mine exists"),
    "forcing what is not ours": (
        command("--payload-bits", "8", "--force", out="mine"),
        "was not written by privynet",
    ),
    "unknown data": (
        ["defend", "encoder.json", "--data", "digit", "--out", "out", "--payload-bits", "8"],
        "did you mean digits?",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    arguments, expected = CASES[case]
    before = set(folder.rglob("*"))
    capfd.readouterr()
    assert main(list(arguments)) == 2
    shown = capfd.readouterr()
    errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert shown.out == "" and len(errors) == 1 and expected in errors[0], shown.err
    assert set(folder.rglob("*")) == before
