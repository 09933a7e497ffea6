"""All that lies on disk between verbs: documents, digests, run folders, artifacts and ONNX Runtime sessions.

Nothing here computes, but for the payload format, which both sides of the wire must know. What is written
appears complete under its final name or not at all.
"""

from .artifact import (
    ARTIFACT_VERSION,
    Artifact,
    BrokenArtifact,
    Fault,
    FileInfo,
    Manifest,
    TensorInfo,
    manifest_digest,
    seal,
)
from .audits import AuditFolder
from .documents import SCHEMA_VERSION, read_document, write_document
from .files import file_digest, replace_file
from .folders import new_folder
from .grids import fit_grid
from .payload import Payload
from .runs import RunFolder
from .sessions import OrtEncoder, OrtHead

__all__ = [
    "ARTIFACT_VERSION",
    "SCHEMA_VERSION",
    "Artifact",
    "AuditFolder",
    "BrokenArtifact",
    "Fault",
    "FileInfo",
    "Manifest",
    "OrtEncoder",
    "OrtHead",
    "Payload",
    "RunFolder",
    "TensorInfo",
    "file_digest",
    "fit_grid",
    "manifest_digest",
    "new_folder",
    "read_document",
    "replace_file",
    "seal",
    "write_document",
]
