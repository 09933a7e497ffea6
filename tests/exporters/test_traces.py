"""An artifact tells nothing of the machine, the user and the day that made it."""

from __future__ import annotations

import io
import os
import platform
import re
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

USER, HOME, TEMPORARY = "quetzalcoatlus", "home-of-quetzalcoatlus", "temporary-of-quetzalcoatlus"


@pytest.fixture(scope="module", params=["made", "made.zip", "made --on local"])
def made(request: pytest.FixtureRequest, small_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported and signed by a user of a name like no other, in a folder of a name like no other."""
    folder = tmp_path_factory.mktemp("work-of-quetzalcoatlus")
    for name in (HOME, TEMPORARY):
        (folder / name).mkdir()
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / HOME / "key").write_bytes(key)
    who = {"HOME": str(folder / HOME), "USER": USER, "LOGNAME": USER, "TMPDIR": str(folder / TEMPORARY)}
    out, *options = request.param.split()
    arguments = ["export", small_spec, "--out", out, "--sign", folder / HOME / "key", *options]
    subprocess.run(
        [sys.executable, "-m", "privynet.toolkit.main", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **who},
        check=True,
        capture_output=True,
    )
    assert list((folder / TEMPORARY).iterdir()) == []
    return folder / out


def every_byte(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The file, and what lies in it where it is an archive."""
    yield name, data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                assert info.date_time == (1980, 1, 1, 0, 0, 0), (name, info.filename)
                assert not info.extra.startswith((b"UT", b"ux")) and not info.comment
                yield from every_byte(f"{name}/{info.filename}", archive.read(info))


def test_no_member_holds_a_trace_at_any_depth(made: Path, small_spec: Path) -> None:
    files = [made] if made.is_file() else sorted(made.iterdir())
    assert all(stat.S_ISREG(file.stat().st_mode) for file in files)
    found = [item for file in files for item in every_byte(file.name, file.read_bytes())]
    assert {"selftest.npz", "encoder.onnx"} <= {name.rpartition(".zip/")[2] for name, _ in found}
    assert any(name.endswith("selftest.npz/images.npy") for name, _ in found)
    traces = [USER, socket.gethostname(), platform.platform(), platform.release(), sys.prefix]
    traces += [str(small_spec.parent), "site-packages", "Traceback"]
    dates = re.compile(rb"\b20[2-9]\d-[01]\d-[0-3]\d\b|\b20[2-9]\d[01]\d[0-3]\dT")
    for name, data in found:
        assert [trace for trace in traces if len(trace) > 3 and trace.encode() in data] == [], name
        if name.endswith((".json", ".md", ".sig")):
            assert dates.findall(data) == [], name
