"""What the graph of an artifact does when it is loaded and run, in a process of its own: it may be hostile.

A graph that was not refused by its looks can still crash a runtime, or take all memory or time. So it first
runs where that ends nothing but the check.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import Artifact, BrokenArtifact, OrtEncoder
from ..errors import PrivynetError, one_line
from .agreement import TOLERANCE
from .formats.ort import ort_fault
from .outline import Outline, read_outline
from .probes import probes
from .selftest import read_selftest, selftest_agreement

SECONDS = 120
"""Of processor time that loading a graph and running it may take; on the clock it is twice as much."""
_BASE_BYTES = 4 * 2**30
_TIMES_THE_FILE = 4
"""ONNX Runtime holds a file, what is parsed of it, and weights laid out anew."""
_NOISE_SEED = 1
_UNSEEN = 0.05
"""At least this share of a payload must not be clipped, or nobody could see noise in it."""

Fault = tuple[str, str, str]
"""Code, member and message."""


@dataclass(frozen=True)
class Behaviour:
    """What an artifact's graph does."""

    faults: list[Fault]
    sent: NDArray[Any] | None
    """For the images that were fed; ``None`` where there are faults."""


def behaviour(artifact: Artifact, images: NDArray[np.uint8], noise: NDArray[np.float32] | None) -> Behaviour:
    """What is wrong with what an artifact's graph does: shapes, loading, self-test, noise; and
    whether ``encoder.ort`` does the same. And what it sends for ``images`` (n, H, H, 3) and ``noise``.

    It may take ``SECONDS`` of processor time, and 4 GiB of memory and four times its file. Raises
    ``PrivynetError`` when there can be no such process.
    """
    manifest = artifact.manifest
    models = sum(
        manifest.files[name].bytes for name in ("encoder.onnx", "encoder.ort") if name in manifest.files
    )
    memory = _BASE_BYTES + _TIMES_THE_FILE * models
    program = f"import sys; from {__name__} import main; main(*sys.argv[1:])"
    with tempfile.TemporaryDirectory() as folder:
        fed, sent = Path(folder) / "fed.npz", Path(folder) / "sent.npy"
        np.savez(fed, allow_pickle=False, images=images, **({} if noise is None else {"noise": noise}))
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", program, str(artifact.folder), str(memory), str(fed), str(sent)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **_ONE_THREAD},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                # Or Ctrl-C would look like a crash.
                start_new_session=True,
                timeout=2 * SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _dead(f"takes more than {2 * SECONDS} s to load and run")
        if done.returncode == -signal.SIGXCPU:
            return _dead(f"takes more than {SECONDS} s of processor time to load and run")
        if done.returncode < 0:
            return _dead(f"crashes what loads it ({signal.Signals(-done.returncode).name})")
        if done.returncode:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing said"])[-1]
            raise PrivynetError(f"the graph could not be tried: {one_line(last)}")
        faults = [tuple(fault) for fault in json.loads(done.stdout.splitlines()[-1])]
        return Behaviour(faults, None if faults else np.load(sent, allow_pickle=False))


def _dead(message: str) -> Behaviour:
    return Behaviour([("graph", "encoder.onnx", message)], None)


_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Each thread of a library takes address space, which is what is limited."""


def main(folder: str, memory: str, fed: str, sent: str) -> None:
    """In the process of its own: print the faults as JSON, write what is sent."""
    _limit(int(memory))
    try:
        faults = list(_faults(Path(folder), Path(fed), Path(sent)))
    except MemoryError:
        faults = [("graph", "encoder.onnx", f"takes more than {int(memory) >> 20} MiB to load and run")]
    print(json.dumps(faults))


def _limit(memory: int) -> None:
    import resource

    for what, wanted in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(what)
        # macOS has no limit of address space.
        with suppress(ValueError):
            resource.setrlimit(what, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _faults(folder: Path, fed: Path, sent_to: Path) -> Iterator[Fault]:
    artifact = Artifact.open(folder)
    shape = next(shape_faults(read_outline(artifact.model)), None)
    if shape is not None:
        yield "graph", "encoder.onnx", shape
        return
    try:
        session = artifact.session()
        rows = read_selftest(folder / "selftest.npz", artifact.manifest)
        sent = session.send(rows["images"], rows.get("noise"))
        found = selftest_agreement(rows, sent, session.payload, in_int8=artifact.manifest.in_int8)
        if not found.holds:
            yield "selftest", "encoder.onnx", f"self-test is off by {found}"
            return
        wrong = noise_fault(session)
        with np.load(fed, allow_pickle=False) as probes:
            np.save(sent_to, session.send(probes["images"], probes.get("noise")), allow_pickle=False)
    except BrokenArtifact as broken:
        yield from (("graph", fault.file, fault.reason) for fault in broken.faults)
        return
    except PrivynetError as error:
        # What it says of the place is of no use to who gave a zip.
        yield (
            "graph",
            "encoder.onnx",
            error.message.removeprefix(f"{artifact.model} ").replace(f"{folder}/", ""),
        )
        return
    if wrong is not None:
        yield "noise", "encoder.onnx", wrong
    elif "ort" in artifact.manifest.formats:
        yield from _ort_faults(artifact, session)


def _ort_faults(artifact: Artifact, session: OrtEncoder) -> Iterator[Fault]:
    try:
        wrong = ort_fault(artifact, session, seed=_NOISE_SEED)
    except (PrivynetError, ValueError) as error:
        yield "graph", "encoder.ort", one_line(str(error).replace(f"{artifact.folder}/", ""))
        return
    if wrong is not None:
        yield "parity", "encoder.ort", wrong


def shape_faults(outline: Outline) -> Iterator[str]:
    """Why not every value of a graph has a fixed shape."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(outline.model)
    graph = model.graph
    kept = []
    for place, tensor in enumerate(outline.model.graph.initializer):
        if place in outline.left_out:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(value)
        else:
            kept.append(tensor)
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError) as error:
        yield f"has shapes that do not fit: {one_line(' '.join(str(error).split()), most=150)}"
        return
    fixed = {
        value.name
        for value in (*inferred.graph.value_info, *inferred.graph.output)
        if all(dimension.HasField("dim_value") for dimension in value.type.tensor_type.shape.dim)
        and value.type.tensor_type.HasField("shape")
    }
    for node in inferred.graph.node:
        for name in node.output:
            if name and name not in fixed:
                yield f"has a value {one_line(name, most=80)!r} of no fixed shape"


def noise_fault(session: OrtEncoder) -> str | None:
    """Why the noise that is fed does not arrive with the standard deviation that the manifest names."""
    if session.noise is None:
        return None
    images, noise = probes(session.input_size, session.feature_shape, seed=_NOISE_SEED)
    assert noise is not None
    payload = session.payload
    sent, silent = session.send(images, noise), session.send(images)
    received = payload.decode(sent, session.feature_shape)
    added = received - payload.decode(silent, session.feature_shape)
    error = np.abs(added - session.noise_std * noise)
    allowed = TOLERANCE * np.maximum(1.0, np.abs(received))
    if payload.quantised:
        # Each of the two is off by half a step; what was clipped says nothing.
        allowed += payload.scale
        seen = np.ones(error.shape, bool)
        for integers in (payload.unpack(one, session.feature_shape) for one in (sent, silent)):
            seen &= (integers > 0) & (integers < payload.top)
        if seen.mean() < _UNSEEN:
            return f"clips all but {seen.mean():.1%} of the values, so that no noise can be seen in them"
        error[~seen] = 0
    if not (error > allowed).any():
        return None
    return f"noise of standard deviation {session.noise_std:g} arrives changed by up to {error.max():.3g}"
