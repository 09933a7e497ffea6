"""The folder of one audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .documents import read_document, write_document
from .folders import new_folder

_MARK = "inputs.json"


@dataclass(frozen=True)
class AuditFolder:
    """An audit's folder, mode 0700: it may hold raw images and what was rebuilt of them."""

    path: Path
    inputs: dict[str, Any]
    """What the audit was started with, as written."""

    @classmethod
    def start(cls, path: Path, inputs: Mapping[str, Any], *, force: bool = False) -> AuditFolder:
        """A new audit's folder, or that of the same audit, to go on with (with ``force`` always a new one).

        Raises ``InputError`` when ``path`` exists and is another audit's or none, unless ``force``.
        """
        if (path / _MARK).is_file():
            earlier = cls.open(path)
            if earlier.inputs == dict(inputs) and not force:
                return earlier
            differing = sorted(
                key for key in {*inputs, *earlier.inputs} if inputs.get(key) != earlier.inputs.get(key)
            )
            if not force:
                raise InputError(
                    f"{path} holds an audit with other settings ({', '.join(differing)})",
                    hint="choose another --out, or --force to replace it",
                )
        with new_folder(path, force=force, private=True) as folder:
            write_document(folder / _MARK, "audit-inputs", {"inputs": dict(inputs)})
            (folder / "attacks").mkdir(mode=0o700)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> AuditFolder:
        """The audit folder at ``path``. Raises ``InputError`` when it is none."""
        if not (path / _MARK).is_file():
            raise InputError(f"{path} is not an audit's folder", hint="give the --out folder of an audit")
        inputs = read_document(path / _MARK, "audit-inputs").get("inputs")
        if not isinstance(inputs, dict):
            raise InputError(f"{path / _MARK} has no inputs", hint="start the audit again with another --out")
        return cls(path, inputs)

    @property
    def result(self) -> Path:
        """The finished audit's document."""
        return self.path / "audit.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def originals(self) -> Path:
        """The attacked images: raw."""
        return self.path / "originals.npz"

    @property
    def recogniser(self) -> Path:
        """The weights of the network that judges rebuilt images."""
        return self.path / "recogniser.safetensors"

    def attack(self, name: str) -> tuple[Path, Path]:
        """Where a finished attack's document and arrays lie."""
        return self.path / "attacks" / f"{name}.json", self.path / "attacks" / f"{name}.npz"
