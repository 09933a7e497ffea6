"""Finished attacks on disk, so that an interrupted audit goes on after the last one."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import AuditFolder, read_document, replace_file, write_document
from ..errors import PrivynetError
from .measures import ImageScores
from .results import AttackResult

_KIND = "attack-result"
_STEP_KIND = "audit-step"


@dataclass(frozen=True)
class FolderStore:
    """``ResultStore`` in an audit's folder; ``prefix`` keeps apart one attack on several encoders."""

    folder: AuditFolder
    prefix: str = ""
    images: bool = True
    """Whether reconstructions are kept."""

    def named(self, prefix: str) -> FolderStore:
        """The same folder under another prefix; reconstructions there are kept by nobody."""
        return replace(self, prefix=f"{prefix}-", images=False)

    def load(self, attack: str) -> AttackResult | None:
        """A finished attack. Raises ``PrivynetError`` when its files are damaged."""
        document, arrays = self.folder.attack(self.prefix + attack)
        if not document.exists():
            return None
        body = read_document(document, _KIND)
        try:
            with np.load(arrays, allow_pickle=False) as archive:
                scores = {
                    entry.name: archive[entry.name] for entry in fields(ImageScores) if entry.name in archive
                }
                pixels = archive["reconstructions"]
            return AttackResult(
                body["attack"],
                tuple(body["knows"]),
                ImageScores(**scores),
                body["fit"],
                pixels,
                body["seed"],
            )
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise PrivynetError(
                f"{arrays} is damaged", hint="start the audit again with --force or another --out"
            ) from error

    def save(self, result: AttackResult) -> None:
        """Write a finished attack; the document comes last, so it is there only when all is."""
        document, arrays = self.folder.attack(self.prefix + result.attack)
        found = {
            entry.name: values
            for entry in fields(ImageScores)
            if (values := getattr(result.image_scores, entry.name)) is not None
        }
        with replace_file(arrays, private=True) as temporary, temporary.open("wb") as file:
            pixels = result.reconstructions[: None if self.images else 0]
            np.savez_compressed(file, allow_pickle=False, reconstructions=pixels, **found)
        body = {
            "attack": result.attack,
            "knows": list(result.knows),
            "fit": dict(result.fit),
            "seed": result.seed,
        }
        write_document(document, _KIND, body, private=True)

    def once(self, name: str, step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The document that ``step`` gives, made once and kept."""
        path, _ = self.folder.attack(self.prefix + name)
        if not path.exists():
            write_document(path, _STEP_KIND, {"body": step()}, private=True)
        body: dict[str, Any] = read_document(path, _STEP_KIND)["body"]
        return body

    def keep_originals(self, images: NDArray[np.uint8]) -> None:
        """Write the attacked images, once."""
        if not self.folder.originals.exists():
            with replace_file(self.folder.originals, private=True) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, images=images)
