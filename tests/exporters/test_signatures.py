"""Whom an artifact is from: export --sign, verify --key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_public_key,
)

from privynet.artifacts import SigningKey
from privynet.exporters import export, verify
from privynet.toolkit.main import main

from .hostile import reseal


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``own``, ``own.pub``, ``other`` and ``other.pub``."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("own", "other"):
        key = Ed25519PrivateKey.generate()
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / name).write_bytes(secret)
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture(scope="module")
def signed(small_spec: Path, keys: Path) -> Path:
    export(small_spec, out=keys / "signed.zip", sign=keys / "own")
    return keys / "signed.zip"


def codes(found: dict[str, object]) -> list[str]:
    return [one["code"] for one in found["findings"]]


def test_the_signer_is_told_and_checked(signed: Path, keys: Path) -> None:
    found = verify(signed, key=keys / "own.pub")
    assert (found["findings"], found["signature"]["state"]) == ([], "valid")
    assert found["signature"]["key"].startswith("SHA256:")
    unasked = verify(signed, without_torch=True)
    assert (unasked["findings"], unasked["signature"]["state"]) == ([], "not_checked")
    other = verify(signed, key=keys / "other.pub", without_torch=True)
    assert (codes(other), other["signature"]["state"]) == (["signature"], "other_key")


def test_the_same_key_gives_the_same_bytes(
    signed: Path, keys: Path, small_spec: Path, tmp_path: Path
) -> None:
    result = export(small_spec, out=tmp_path / "again.zip", sign=keys / "own")
    assert (tmp_path / "again.zip").read_bytes() == signed.read_bytes()
    assert result["signature"] == {**verify(signed, without_torch=True)["signature"], "state": "valid"}


def test_an_unsigned_artifact_is_no_answer_to_a_key(small: Path, keys: Path) -> None:
    assert verify(small, without_torch=True)["signature"] == {"state": "unsigned", "key": None}
    assert codes(verify(small, key=keys / "own.pub", without_torch=True)) == ["signature"]


@pytest.fixture
def unpacked(small_spec: Path, keys: Path, tmp_path: Path) -> Path:
    export(small_spec, out=tmp_path / "signed", sign=keys / "own")
    return tmp_path / "signed"


def test_a_consistent_forgery_is_refused_by_its_signature_alone(unpacked: Path, keys: Path) -> None:
    """README changed, digests made anew: nothing but the signature can tell."""
    (unpacked / "README.md").write_text("Send the image itself.\n")
    reseal(unpacked)
    assert codes(verify(unpacked, without_torch=True)) == ["signature"]
    assert codes(verify(unpacked, key=keys / "own.pub", without_torch=True)) == ["signature"]
    (unpacked / "manifest.sig").unlink()
    assert codes(verify(unpacked, without_torch=True)) == ["integrity"]
    reseal(unpacked, signer=None)
    assert codes(verify(unpacked, without_torch=True)) == []
    assert codes(verify(unpacked, key=keys / "own.pub", without_torch=True)) == ["signature"]


def test_a_signature_that_is_dropped_or_another_s_is_missed(unpacked: Path, small: Path, keys: Path) -> None:
    signature = (unpacked / "manifest.sig").read_bytes()
    (unpacked / "manifest.sig").unlink()
    (found,) = verify(unpacked, without_torch=True)["findings"]
    assert (found["code"], found["message"]) == ("integrity", "manifest.sig is missing")
    other = SigningKey.read(keys / "other")
    (unpacked / "manifest.sig").write_bytes(other.sign((unpacked / "manifest.json").read_bytes()).text())
    assert codes(verify(unpacked, without_torch=True)) == ["integrity"]
    copy = Path(shutil.copytree(small, unpacked.with_name("unsigned")))
    (copy / "manifest.sig").write_bytes(signature)
    assert codes(verify(copy, without_torch=True)) == ["integrity"]


def test_a_forger_s_own_signature_is_refused_by_the_key(unpacked: Path, keys: Path) -> None:
    (unpacked / "README.md").write_text("Send the image itself.\n")
    other = SigningKey.read(keys / "other")
    reseal(unpacked, signer=other.public_key.raw.hex())
    forged = other.sign((unpacked / "manifest.json").read_bytes())
    (unpacked / "manifest.sig").write_bytes(forged.text())
    assert verify(unpacked, without_torch=True)["signature"]["state"] == "not_checked"
    assert codes(verify(unpacked, key=keys / "own.pub", without_torch=True)) == ["signature"]


@pytest.mark.parametrize("place", [20, 40, 90, 120, 200])
def test_no_character_of_a_signature_can_be_changed(unpacked: Path, place: int) -> None:
    text = bytearray((unpacked / "manifest.sig").read_bytes())
    text[place] = ord("1") if text[place] != ord("1") else ord("2")
    (unpacked / "manifest.sig").write_bytes(text)
    assert codes(verify(unpacked, without_torch=True)) in (["signature"], ["integrity"])


def test_a_graph_with_a_wrong_signature_is_not_loaded(
    unpacked: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(unpacked / "encoder.onnx")
    model.graph.node[0].op_type = "Nonsense"
    onnx.save(model, unpacked / "encoder.onnx")
    reseal(unpacked)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert codes(verify(unpacked, key=keys / "own.pub")) == ["signature"]


def test_the_verbs_say_who_signed(
    small: Path, signed: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(*arguments: object) -> tuple[int, str, str]:
        code = main(["verify", "--without-torch", *map(str, arguments)])
        return code, *capsys.readouterr()

    assert "unsigned: integrity, not origin" in shown(small)[1]
    code, out, _ = shown(signed)
    assert code == 0 and "integrity, not origin" in out and "--key" in out
    code, out, _ = shown(signed, "--key", keys / "own.pub")
    assert code == 0 and "signed with SHA256:" in out and "not origin" not in out
    for arguments in ((signed, "--key", keys / "other.pub"), (small, "--key", keys / "own.pub")):
        code, _, err = shown(*arguments)
        assert code == 3 and "error: " in err
    for key in ("own", "signed.zip", "missing"):
        code, _, err = shown(signed, "--key", keys / key)
        assert code == 2 and err.count("error: ") == 1
    assert json.loads(shown(signed, "--json")[1])["signature"]["state"] == "not_checked"


def test_a_key_that_is_none_is_told_before_any_work(small_spec: Path, keys: Path, tmp_path: Path) -> None:
    arguments = [
        "export",
        str(small_spec),
        "--out",
        str(tmp_path / "new.zip"),
        "--sign",
        str(keys / "own.pub"),
    ]
    assert main(arguments) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_signature_is_over_the_bytes_of_the_manifest(unpacked: Path, keys: Path) -> None:
    """As the documentation says it is checked without privynet."""
    signature = bytes.fromhex((unpacked / "manifest.sig").read_text().split()[-1])
    public = load_ssh_public_key((keys / "own.pub").read_bytes())
    public.verify(signature, (unpacked / "manifest.json").read_bytes())
    with pytest.raises(InvalidSignature):
        public.verify(signature, (unpacked / "manifest.json").read_bytes() + b"\n")
