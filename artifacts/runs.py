"""The folder of one search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .documents import read_document, write_document
from .folders import new_folder

_MARK = "run.json"


@dataclass(frozen=True)
class RunFolder:
    """A search's folder, mode 0700: it may hold raw images, and its secret says which channels were kept."""

    path: Path
    inputs: dict[str, Any]
    """What the search was started with, as written."""

    @classmethod
    def create(cls, path: Path, inputs: Mapping[str, Any], *, force: bool = False) -> RunFolder:
        """A new run folder. Raises ``InputError`` when ``path`` exists and is not to be replaced."""
        with new_folder(path, force=force, private=True) as folder:
            write_document(folder / _MARK, "run", {"inputs": dict(inputs)})
            (folder / "cache").mkdir(mode=0o700)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run folder at ``path``. Raises ``InputError`` when it is none or has another schema version."""
        if not path.is_dir():
            raise InputError(
                f"run folder {path} does not exist", hint="give the --out folder of privynet search"
            )
        mark = path / _MARK
        if not mark.is_file():
            raise InputError(
                f"{path} is not a run folder: it has no {_MARK}", hint="give a search's --out folder"
            )
        inputs = read_document(mark, "run").get("inputs")
        if not isinstance(inputs, dict):
            raise InputError(f"{mark} has no inputs", hint="start the search again with another --out")
        return cls(path, inputs)

    @property
    def spec(self) -> Path:
        """The chosen encoder's spec."""
        return self.path / "encoder.json"

    @property
    def secret(self) -> Path:
        """The secret of random channel selection; write it with ``private=True`` (mode 0600)."""
        return self.path / "secret.json"

    @property
    def journal(self) -> Path:
        """Optuna's journal."""
        return self.path / "study.journal"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def bench(self) -> Path:
        return self.path / "bench.json"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def export(self) -> Path:
        """The encoder as ONNX, checked at the end of the search."""
        return self.path / "encoder.onnx"

    @property
    def images(self) -> Path:
        """Originals and what the attacker rebuilt: raw images."""
        return self.path / "reconstructions.npz"

    @property
    def matrices(self) -> Path:
        """The folder of trained projections."""
        return self.path / "projections"

    @property
    def cache(self) -> Path:
        """The folder of what may go when the search has ended."""
        return self.path / "cache"
