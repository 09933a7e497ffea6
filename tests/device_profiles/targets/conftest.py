"""Places to measure on: this machine, a board behind a real sshd, a phone behind the real adb."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from .place import Elsewhere, Place
from .temporary_adb import AdbServer, Phone, adb
from .temporary_sshd import Board, sshd

_MISSING = {"ssh": ("OpenSSH's server", sshd), "adb": ("adb", adb)}


class Here(Place):
    """This machine."""

    url = "local"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, but larger than what a full disk takes."""
    path = tmp_path_factory.mktemp("models") / "encoder.onnx"
    weights = np.random.default_rng(0).standard_normal((3 * 32 * 32, 64)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 32, 32, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 64])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture(scope="session")
def greedy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of some bytes that takes two gigabytes to run."""
    path = tmp_path_factory.mktemp("models") / "greedy.onnx"
    nodes = [
        helper.make_node("Expand", ["image", "size"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "greedy",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(np.array([500_000, 1000], dtype=np.int64), "size")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    place = Here(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(place.temporary))
    return place


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """A board that the user may log in to, and whose key is known."""
    with Board(tmp_path / "board") as board:
        monkeypatch.setenv("HOME", str(board.home(tmp_path / "home")))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        yield board


@pytest.fixture(scope="session")
def adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    with AdbServer(tmp_path_factory.mktemp("adb")) as server:
        yield server


@pytest.fixture
def phone(adb_server: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    for name, value in adb_server.environment.items():
        monkeypatch.setenv(name, value)
    with Phone(tmp_path / "phone", adb_server) as phone:
        yield phone


@pytest.fixture(
    params=[
        "here",
        pytest.param("board", marks=pytest.mark.ssh),
        pytest.param("phone", marks=pytest.mark.adb),
    ]
)
def place(request: pytest.FixtureRequest) -> Place:
    """Each of them."""
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture(
    params=[pytest.param("board", marks=pytest.mark.ssh), pytest.param("phone", marks=pytest.mark.adb)]
)
def elsewhere(request: pytest.FixtureRequest) -> Elsewhere:
    """Each of those that have a connection to lose."""
    found: Elsewhere = request.getfixturevalue(request.param)
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    absent = [mark for mark, (_, find) in _MISSING.items() if find() is None]
    deselected = [item for item in items if any(item.get_closest_marker(mark) for mark in absent)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in deselected]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for mark, (what, find) in _MISSING.items():
        if find() is None:
            terminalreporter.write_line(f"tests marked {mark} were left out: {what} is not installed")
