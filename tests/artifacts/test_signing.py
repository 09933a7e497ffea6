"""Keys and signatures, in each form that people keep them in."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat

from privynet.artifacts import Artifact, BrokenArtifact, PublicKey, Signature, SigningKey, seal
from privynet.errors import InputError

from .conftest import BODY, write_members

FINGERPRINT = "SHA256:lbmsoA0yIEcEiVDRnMWuzm+nV+3ZEEpVIURqFoeSspg"
"""As ``ssh-keygen -l`` shows the key of ``write_keys``."""
OPEN = serialization.NoEncryption()


def locked(password: str) -> serialization.KeySerializationEncryption:
    return serialization.BestAvailableEncryption(password.encode())


def write_keys(folder: Path, key: Ed25519PrivateKey | None = None) -> Ed25519PrivateKey:
    """``pem``, ``ssh``, both ``-locked`` with the password ``open sesame``, and both ``.pub``."""
    key = key or Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    for name, form in (("pem", PrivateFormat.PKCS8), ("ssh", PrivateFormat.OpenSSH)):
        (folder / name).write_bytes(key.private_bytes(Encoding.PEM, form, OPEN))
        secret = key.private_bytes(Encoding.PEM, form, locked("open sesame"))
        (folder / f"{name}-locked").write_bytes(secret)
    public = key.public_key()
    (folder / "pem.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (folder / "ssh.pub").write_bytes(
        public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" me@here\n"
    )
    return key


@pytest.mark.parametrize("name", ["pem", "ssh", "pem-locked", "ssh-locked"])
def test_every_form_of_key_signs_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    key = write_keys(tmp_path)
    monkeypatch.setenv("PRIVYNET_KEY_PASSWORD", "open sesame")
    signature = SigningKey.read(tmp_path / name).sign(b"data")
    assert signature.raw == key.sign(b"data")
    for public in ("pem.pub", "ssh.pub"):
        assert PublicKey.read(tmp_path / public) == signature.public_key
    assert signature.holds(b"data") and not signature.holds(b"other")
    assert Signature.parse(signature.text()) == signature


@pytest.mark.parametrize("name", ["pem-locked", "ssh-locked"])
def test_a_locked_key_needs_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_keys(tmp_path)
    monkeypatch.delenv("PRIVYNET_KEY_PASSWORD", raising=False)
    with pytest.raises(InputError, match=r"is encrypted.*\$PRIVYNET_KEY_PASSWORD"):
        SigningKey.read(tmp_path / name)
    monkeypatch.setenv("PRIVYNET_KEY_PASSWORD", "wrong")
    with pytest.raises(InputError, match="cannot be decrypted"):
        SigningKey.read(tmp_path / name)


def test_what_is_no_key_or_another_kind_is_bad_input(tmp_path: Path) -> None:
    write_keys(tmp_path)
    others = {"rsa": rsa.generate_private_key(65537, 2048), "ec": ec.generate_private_key(ec.SECP256R1())}
    for name, other in others.items():
        (tmp_path / name).write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, OPEN))
        public = other.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        (tmp_path / f"{name}.pub").write_bytes(public)
        with pytest.raises(InputError, match="another kind"):
            SigningKey.read(tmp_path / name)
        with pytest.raises(InputError, match="another kind"):
            PublicKey.read(tmp_path / f"{name}.pub")
    (tmp_path / "text").write_text("not a key")
    (tmp_path / "empty").touch()
    (tmp_path / "huge").write_bytes(bytes(2**17))
    (tmp_path / "cut").write_bytes((tmp_path / "ssh").read_bytes()[:120])
    for name in ("text", "empty", "huge", "cut", ".", "missing", "pem.pub"):
        with pytest.raises(InputError):
            SigningKey.read(tmp_path / name)
    for name in ("text", "empty", "huge", "cut", ".", "missing"):
        with pytest.raises(InputError):
            PublicKey.read(tmp_path / name)
    with pytest.raises(InputError, match="is a private key"):
        PublicKey.read(tmp_path / "pem")


def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    write_keys(tmp_path)
    assert PublicKey.read(tmp_path / "ssh.pub").fingerprint == FINGERPRINT


def test_a_signed_artifact_opens_with_its_signature(tmp_path: Path) -> None:
    write_keys(tmp_path)
    folder = tmp_path / "artifact"
    write_members(folder)
    seal(folder, BODY, key=SigningKey.read(tmp_path / "pem"))
    opened = Artifact.open(folder)
    assert opened.signature is not None
    assert opened.signature.holds((folder / "manifest.json").read_bytes())
    assert "manifest.sig" not in opened.manifest.files
    text = (folder / "manifest.sig").read_bytes()
    for changed in (b"", text[:-1], text + b"\n", text.upper(), b"x" * 2000):
        (folder / "manifest.sig").write_bytes(changed)
        with pytest.raises(BrokenArtifact, match=r"manifest\.sig"):
            Artifact.open(folder)
