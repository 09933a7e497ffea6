from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from privynet.device_profiles import compare
from privynet.device_profiles.measuring.comparison import Ratio, burst_medians, estimate
from privynet.device_profiles.measuring.sessions import OtherModel, SessionResult
from privynet.errors import InputError, PrivynetError


def save_convolution(path: Path, *, channels: int) -> Path:
    weights = np.random.default_rng(0).standard_normal((channels, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weights"], ["features"])],
        "convolution",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, channels, 62, 62])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def sessions(
    ratio: float,
    *,
    generator: np.random.Generator,
    pairs: int = 60,
    between: float = 0.01,
    noise: float = 0.03,
) -> list[NDArray[np.float64]]:
    """Pairs of bursts on a machine that is now and then twice as slow; each process has a bias of its own."""
    made = []
    for _ in range(3):
        biased = ratio * np.exp(generator.normal(0, between))
        weather = np.repeat(generator.choice([1.0, 1.1, 2.0], pairs // 10), 10)[:, None]
        disturbed = np.exp(np.abs(generator.normal(0, noise, (pairs, 2))))
        made.append(np.array([biased, 1.0]) * weather * disturbed)
    return made


def test_the_interval_holds_the_ratio_on_a_machine_that_is_not_quiet() -> None:
    generator = np.random.default_rng(0)
    found = [estimate(sessions(0.8, generator=generator)) for _ in range(15)]
    held = [ratio.ci95[0] <= 0.8 <= ratio.ci95[1] for ratio in found]
    assert sum(held) >= 12
    assert all(ratio.ci95[0] > 0.75 and ratio.ci95[1] < 0.85 for ratio in found)
    assert all(ratio.n == 180 for ratio in found)


def test_pairs_in_which_one_model_was_disturbed_do_not_count() -> None:
    """Something that slows the second model only, as work that takes its cache, in two fifths of the time."""
    disturbed = sessions(0.5, generator=np.random.default_rng(1), between=0, noise=0.1)
    for pairs in disturbed:
        pairs[:24, 1] *= 3
    assert estimate(disturbed).value == pytest.approx(0.5, rel=0.03)


def test_the_other_way_round_it_is_the_inverse() -> None:
    made = sessions(0.7, generator=np.random.default_rng(2))
    found, turned = estimate(made), estimate([pairs[:, ::-1] for pairs in made])
    assert turned.value == pytest.approx(1 / found.value)
    assert turned.ci95 == pytest.approx([1 / found.ci95[1], 1 / found.ci95[0]], rel=0.01)


def test_the_words_say_what_the_interval_says() -> None:
    faster = Ratio(0.8312, (0.8144, 0.8478), 200)
    assert faster.words("A", "B") == "A takes 0.8312 (0.8144..0.8478) times as long as B"
    same = Ratio(1.01, (0.99, 1.03), 200)
    assert same.words("A", "B") == "no difference seen: A takes 0.99 to 1.03 times as long as B"


def test_bursts_are_told_apart_by_their_counts() -> None:
    other = OtherModel(
        load_ms=1, first_ms=1, latencies_ms=[7, 9, 8], model_sha256="", bursts=[(2, 1), (1, 2)]
    )
    session = SessionResult(
        load_ms=1,
        first_ms=1,
        latencies_ms=[1, 2, 3],
        timed_seconds=1,
        other_cores=None,
        peak_rss_kb=None,
        model_sha256="",
        machine={},
        before={},
        after={},
        other=other,
    )
    assert burst_medians(session).tolist() == [[1.5, 7], [3, 8.5]]
    short = session.model_copy(update={"latencies_ms": [1.0, 2.0]})
    with pytest.raises(PrivynetError, match="lost runs: 2 of 3"):
        burst_medians(short)


def test_the_model_with_more_work_takes_longer(tmp_path: Path) -> None:
    large = save_convolution(tmp_path / "large.onnx", channels=64)
    small = save_convolution(tmp_path / "small.onnx", channels=8)
    result = compare(large, small, sessions=2, min_seconds=0.5)
    low, high = result["ratio"]["ci95"]
    assert 1.5 < low <= result["ratio"]["value"] <= high
    assert result["ratio"]["n"] >= 40
    assert result["verdict"].startswith("large.onnx takes ")
    assert result["latency_ms"]["median"] > result["other"]["latency_ms"]["median"]
    assert result["model_sha256"] != result["other"]["model_sha256"]
    assert result["valid"]
    assert result["protocol"]["clock"] == "processor"


def test_several_threads_are_timed_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    model = save_convolution(tmp_path / "model.onnx", channels=8)
    result = compare(model, model, threads=2, sessions=1, min_seconds=0.1)
    assert result["protocol"]["clock"] == "wall"
    assert "one-session" in [flag["code"] for flag in result["flags"]]


def test_a_second_model_that_cannot_be_timed_is_named(tmp_path: Path) -> None:
    model = save_convolution(tmp_path / "model.onnx", channels=8)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is not a model")
    with pytest.raises(InputError, match=r"cannot be timed: broken\.onnx: "):
        compare(model, broken)
    with pytest.raises(InputError, match=r"there is no file .*absent\.onnx"):
        compare(model, tmp_path / "absent.onnx")
