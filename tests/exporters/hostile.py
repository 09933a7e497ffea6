"""Artifacts changed and sealed anew: what a consistent forger would do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from privynet.artifacts import file_digest, manifest_digest

Change = Callable[[onnx.ModelProto], None]
MEMORY = 3 * 2**30
"""Of address space that a check may take: torch, which is not wanted for it, would take more."""
SECONDS = 60


def before_the_output(*made: onnx.NodeProto) -> Change:
    """Put nodes between the graph and its output: from ``inner`` to the output's name."""

    def change(model: onnx.ModelProto) -> None:
        name = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["inner" if one == name else one for one in node.output]
        for node in made:
            node.output[:] = [name if one == "OUT" else one for one in node.output]
        model.graph.node.extend(made)

    return change


def reseal(folder: Path, **changes: Any) -> None:
    """Give a folder the manifest, with ``changes``, that fits its members."""
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    for name in manifest["files"]:
        size = (folder / name).stat().st_size
        manifest["files"][name] = {"sha256": file_digest(folder / name), "bytes": size}
    manifest["digest"] = manifest_digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def forged(artifact: Path, folder: Path, change: Change) -> Path:
    """A copy of an artifact with a changed graph, sealed anew."""
    copy = Path(shutil.copytree(artifact, folder / "forged"))
    model = onnx.load(copy / "encoder.onnx")
    change(model)
    (copy / "encoder.onnx").write_bytes(model.SerializeToString())
    reseal(copy)
    return copy


def checked_within_limits(artifact: Path) -> dict[str, Any]:
    """What ``verify`` without torch finds, in a process that may not take much memory or time."""
    script = (
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "from privynet.exporters import verify\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))\n"
        "print(json.dumps(verify(Path(sys.argv[1]), without_torch=True)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(artifact)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
