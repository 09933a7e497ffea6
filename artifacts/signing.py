"""Who made an artifact: an Ed25519 signature over its manifest's bytes, which name all other members."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PASSWORD_VARIABLE = "PRIVYNET_KEY_PASSWORD"

_FORM = re.compile(rb"privynet signature 1\npublic-key ([0-9a-f]{64})\ned25519 ([0-9a-f]{128})\n")
_SSH_WIRE = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
_MOST_BYTES = 2**16
"""Of a file with a key."""
_ALLOWED = "allowed: Ed25519, as PEM or as OpenSSH writes it"


@dataclass(frozen=True)
class PublicKey:
    """Whom a signature is from."""

    raw: bytes
    """32 bytes."""

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """The public key in a PEM file or a ``.pub`` file of OpenSSH.

        Raises ``InputError`` when there is none, or one of another kind than Ed25519.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        data = _key_file(path)
        if b"PRIVATE KEY" in data:
            raise InputError(f"{path} is a private key", hint="give the public one")
        ssh = data.lstrip().startswith((b"ssh-", b"ecdsa-", b"sk-"))
        load = serialization.load_ssh_public_key if ssh else serialization.load_pem_public_key
        try:
            key = load(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InputError(f"{path} is no public key", hint=_ALLOWED) from error
        if not isinstance(key, Ed25519PublicKey):
            raise InputError(f"{path} is a public key of another kind", hint=_ALLOWED)
        return cls(key.public_bytes_raw())

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` shows it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(_SSH_WIRE + self.raw).digest()).decode().rstrip(
            "="
        )


@dataclass(frozen=True)
class Signature:
    """A signature, and the public key that it claims to be by."""

    public_key: PublicKey
    raw: bytes
    """64 bytes."""

    @classmethod
    def parse(cls, text: bytes) -> Signature | None:
        """The signature in a file, or ``None`` where there is none."""
        found = _FORM.fullmatch(text)
        if found is None:
            return None
        key, raw = (bytes.fromhex(part.decode()) for part in found.groups())
        return cls(PublicKey(key), raw)

    def text(self) -> bytes:
        """The file's content."""
        key, signature = self.public_key.raw.hex(), self.raw.hex()
        return f"privynet signature 1\npublic-key {key}\ned25519 {signature}\n".encode()

    def holds(self, data: bytes) -> bool:
        """Whether its public key's owner has signed ``data``."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.public_key.raw).verify(self.raw, data)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """A private key."""

    _key: Ed25519PrivateKey

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """The private key in a PEM file (PKCS8) or a file of OpenSSH.

        The password of an encrypted one is taken from ``$PRIVYNET_KEY_PASSWORD``. Raises ``InputError`` when
        there is no key, one of another kind than Ed25519, or the password is missing or wrong.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        data = _key_file(path)
        ssh = b"BEGIN OPENSSH PRIVATE KEY" in data
        load = serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key
        key: object
        try:
            key = load(data, None)
        except TypeError:  # it is encrypted
            key = _decrypted(load, data, path)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InputError(f"{path} is no private key", hint=_ALLOWED) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(f"{path} is a private key of another kind", hint=_ALLOWED)
        return cls(key)

    @property
    def public_key(self) -> PublicKey:
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, data: bytes) -> Signature:
        """The signature of ``data``."""
        return Signature(self.public_key, self._key.sign(data))


def _decrypted(load: Callable[[bytes, bytes], object], data: bytes, path: Path) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm

    password = os.environ.get(PASSWORD_VARIABLE)
    if not password:
        raise InputError(f"{path} is encrypted", hint=f"put its password into ${PASSWORD_VARIABLE}")
    try:
        return load(data, password.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{path} cannot be decrypted", hint=f"is ${PASSWORD_VARIABLE} its password?"
        ) from error


def _key_file(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"key {path} is not a file", hint=_ALLOWED)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read key {path}: {error.strerror}", hint="check the path") from error
    if len(data) > _MOST_BYTES:
        raise InputError(f"{path} is no key: it has more than {_MOST_BYTES} bytes", hint=_ALLOWED)
    return data
