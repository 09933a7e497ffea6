"""Encoders in integers: what they send, how it is computed, and what is said of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from privynet.artifacts import OrtEncoder
from privynet.data import open_data
from privynet.encoders import Encoder, Int8, Payload, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import InputError, NegativeResult
from privynet.exporters import export, write_onnx
from privynet.exporters.int8 import float_graph, in_int8, int8_graph
from privynet.exporters.int8.exporting import calibrated


@pytest.fixture(scope="module")
def splitter() -> Splitter:
    return Splitter(load_backbone(parse_backbone("bundled")), 32)


@pytest.fixture(scope="module")
def encoder(splitter: Splitter) -> Encoder:
    return make_encoder(splitter, cut="blocks.4.2", channels=range(0, 60, 3))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return next(iter(open_data("digits").split("head-train", limit=48).batches(32)))


@pytest.fixture(scope="module")
def unseen() -> np.ndarray:
    return next(iter(open_data("digits").split("select", limit=32).batches(32)))


@pytest.fixture(scope="module")
def quantised(encoder: Encoder, images: np.ndarray) -> Encoder:
    return in_int8(encoder, images)[0]


def session_of(encoder: Encoder, folder: Path) -> OrtEncoder:
    path = folder / "encoder.onnx"
    write_onnx(encoder, path)
    return OrtEncoder.open(
        path, payload=encoder.payload, noise_std=encoder.noise_std, feature_shape=encoder.feature_shape
    )


def signal_to_noise_db(exact: np.ndarray, rounded: np.ndarray) -> float:
    exact = exact.astype(np.float64)
    return float(10 * np.log10((exact**2).sum() / ((exact - rounded) ** 2).sum()))


def executed(path: Path, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime runs of a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def test_features_are_close_to_those_in_float32(
    encoder: Encoder, quantised: Encoder, unseen: np.ndarray, tmp_path: Path
) -> None:
    sent = session_of(quantised, tmp_path).encode(unseen)
    assert sent.shape == (32, 20, 8, 8)
    assert signal_to_noise_db(encoder.encode(unseen), sent) > 25
    assert quantised.digest != encoder.digest


def test_it_takes_a_quarter_of_the_file(encoder: Encoder, quantised: Encoder, tmp_path: Path) -> None:
    sizes = [write_onnx(one, tmp_path / "encoder.onnx")["bytes"] for one in (encoder, quantised)]
    assert sizes[1] < 0.4 * sizes[0]


def test_every_convolution_is_computed_in_integers(quantised: Encoder, tmp_path: Path) -> None:
    write_onnx(quantised, tmp_path / "encoder.onnx")
    in_file = Counter(node.op_type for node in onnx.load(tmp_path / "encoder.onnx").graph.node)
    run = executed(tmp_path / "encoder.onnx", tmp_path)
    assert run["QLinearConv"] == in_file["Conv"] > 3
    assert not {"Conv", "FusedConv", "Cast", "QuantizeLinear"} & run.keys()


@pytest.mark.parametrize("bits", (8, 4, 2))
def test_a_payload_is_rounded_once_and_counts_as_it_leaves(
    encoder: Encoder, images: np.ndarray, unseen: np.ndarray, bits: int, tmp_path: Path
) -> None:
    payload = Payload.fit(encoder.encode(images), bits)  # type: ignore[arg-type]
    sending = encoder.sending(payload=payload)
    quantised, _ = in_int8(sending, images)
    session = session_of(quantised, tmp_path)
    sent, wanted = session.send(unseen), sending.send(unseen)
    assert (sent.shape, sent.dtype) == (wanted.shape, wanted.dtype)
    off = np.abs(payload.steps(sent).astype(int) - payload.steps(wanted).astype(int))
    # The steps of few bits are coarse beside those of the integers before.
    assert off.mean() < {8: 1.5, 4: 0.15, 2: 0.05}[bits]
    if bits == 8:
        assert "Div" not in executed(tmp_path / "encoder.onnx", tmp_path)


@pytest.mark.parametrize("bits", (8, 4))
def test_a_payload_after_max_pooling_is_rounded_once(bits: int, images: np.ndarray, tmp_path: Path) -> None:
    splitter = Splitter(load_backbone(parse_backbone("torchvision:vgg16,weights=random")), 32)
    encoder = make_encoder(splitter, cut="features.4", channels=range(0, 64, 4))
    assert float_graph(encoder).graph.node[-1].op_type == "MaxPool"
    payload = Payload.fit(encoder.encode(images), bits)  # type: ignore[arg-type]
    sending = encoder.sending(payload=payload)
    quantised, _ = in_int8(sending, images)
    int8 = quantised.spec.int8
    assert int8 is not None and (payload.scale, payload.zero_point) in int8.grids.values()
    sent, wanted = (
        payload.steps(one).astype(int)
        for one in (session_of(quantised, tmp_path).send(images), sending.send(images))
    )
    assert np.abs(sent - wanted).mean() < {8: 1.5, 4: 0.15}[bits]
    assert (
        not {"Div", "QuantizeLinear", "DequantizeLinear"}
        & executed(tmp_path / "encoder.onnx", tmp_path).keys()
    )


def test_a_payload_that_does_not_end_where_the_network_does_lets_nothing_through(
    encoder: Encoder, images: np.ndarray, tmp_path: Path
) -> None:
    """The last activation is a ReLU, which the quantiser leaves to the grid."""
    payload = Payload(bits=8, scale=float(encoder.encode(images).max()) / 150, zero_point=100)
    sending = encoder.sending(payload=payload)
    quantised, _ = in_int8(sending, images)
    sent, wanted = session_of(quantised, tmp_path).send(images), sending.send(images)
    assert sent.min() == wanted.min() == 100
    assert np.abs(sent.astype(int) - wanted.astype(int)).mean() < 1.5


@pytest.mark.parametrize(("least", "most"), ((0.0, 6.0), (-1.0, 1.0), (0.0, None)))
@pytest.mark.parametrize(("scale", "zero"), ((6 / 255, 0), (1 / 100, 100), (0.05, 20), (2 / 255, 128)))
def test_a_clip_at_the_end_holds_whatever_the_payload(
    least: float, most: float | None, scale: float, zero: int, encoder: Encoder
) -> None:
    """Its limits, within the step that the payload rounds to."""
    graph = clipping(least, most)
    payload = Payload(bits=8, scale=scale, zero_point=zero)
    sending = encoder.sending(payload=payload)
    names = [name for node in graph.graph.node for name in node.output]
    step = ((most or 6.0) - least) / 255
    int8 = calibrated(graph, sending, dict.fromkeys(names, (step, round(-least / step))))
    made = int8_graph(graph, sending, int8)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    (sent,) = session.run(None, {"images": images})
    values = payload.dequantise(sent)
    assert values.min() >= least - scale
    assert most is None or values.max() <= most + scale


def clipping(least: float, most: float | None) -> onnx.ModelProto:
    """Two convolutions, the second to both sides of 0, and Clip."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    limits = {name: one for name, one in (("least", least), ("most", most)) if one is not None}
    weights = {"same": np.eye(3), "spread": np.diag([4, -4, 1])}
    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], "cast", to=kind),
        helper.make_node("Transpose", ["numbers"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "same"], ["one"], "first"),
        helper.make_node("Conv", ["one", "spread"], ["two"], "second"),
        helper.make_node("Clip", ["two", *limits], ["features"], "clip"),
    ]
    graph = helper.make_graph(
        nodes,
        "clipping",
        [helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("features", kind, [1, 3, 8, 8])],
        [
            *(helper.make_tensor(name, kind, [], [one]) for name, one in limits.items()),
            *(helper.make_tensor(name, kind, [3, 3, 1, 1], one.ravel()) for name, one in weights.items()),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_grid_that_reaches_below_an_activation_is_refused(quantised: Encoder) -> None:
    int8 = quantised.spec.int8
    assert int8 is not None and float_graph(quantised).graph.node[-1].op_type == "Relu"
    lower = Int8(grids={**int8.grids, "features": (1.0, 100)})
    with pytest.raises(InputError, match=r"grid of features reaches below 0.*calibrate again"):
        int8_graph(float_graph(quantised), quantised, lower)


def test_noise_arrives_as_it_is(encoder: Encoder, images: np.ndarray, tmp_path: Path) -> None:
    noisy, _ = in_int8(encoder.sending(noise_std=0.5), images)
    session = session_of(noisy, tmp_path)
    noise = np.random.default_rng(0).standard_normal((4, *encoder.feature_shape), np.float32)
    added = session.send(images[:4], noise) - session.send(images[:4])
    np.testing.assert_allclose(added, 0.5 * noise, atol=1e-5)


def test_the_signal_that_is_left_is_told(encoder: Encoder, images: np.ndarray, tmp_path: Path) -> None:
    quantised, told = in_int8(encoder, images)
    sent = session_of(quantised, tmp_path).encode(images[:32])
    assert told["sqnr_db"]["features"] == pytest.approx(
        signal_to_noise_db(encoder.encode(images[:32]), sent), abs=0.3
    )
    assert told["images"] == len(images)
    assert told["sqnr_db"].keys() == quantised.spec.int8.grids.keys()  # type: ignore[union-attr]


def test_the_spec_that_ships_gives_the_same_bytes_without_images(
    encoder: Encoder, images: np.ndarray, tmp_path: Path
) -> None:
    encoder.spec.write(tmp_path / "encoder.json")
    first, again = tmp_path / "first", tmp_path / "again"
    told = export(tmp_path / "encoder.json", out=first, precision="int8", calibration_images=images)
    repeated = export(first / "encoder.json", out=again)
    same = {file.name for file in first.iterdir()} - {"manifest.json"}
    assert same >= {"encoder.onnx", "encoder.json", "selftest.npz", "README.md"}
    for name in same:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    # What calibration found is told once.
    assert told["int8"]["images"] == len(images) and told["int8"]["sqnr_db"]
    assert repeated["int8"] == {**told["int8"], "images": 0, "sqnr_db": {}}


@pytest.mark.parametrize(
    ("lost", "max_loss", "codes"), ((0.02, None, ["int8-worse"]), (0.01, None, []), (0.02, 0.05, []))
)
def test_int8_that_loses_accuracy_is_told_with_what_to_do(
    encoder: Encoder,
    images: np.ndarray,
    lost: float,
    max_loss: float | None,
    codes: list[str],
    tmp_path: Path,
) -> None:
    def judge(one: Encoder | OrtEncoder) -> float:
        return 0.95 if isinstance(one, Encoder) else 0.95 - lost

    encoder.spec.write(tmp_path / "encoder.json")
    result = export(
        tmp_path / "encoder.json",
        out=tmp_path / "artifact",
        precision="int8",
        calibration_images=images[:8],
        judge=judge,
        max_loss=max_loss,
    )
    found = [finding for finding in result["findings"] if finding["code"] == "int8-worse"]
    assert [finding["code"] for finding in found] == codes
    for finding in found:
        assert finding["severity"] == "warning"
        assert "from 95.0% in float32 to 93.0% in int8" in finding["message"]
        assert "export in fp32" in finding["message"] and "--max-accuracy-loss" in finding["message"]


def test_the_grids_of_a_spec_are_judged_without_calibrating(quantised: Encoder, tmp_path: Path) -> None:
    quantised.spec.write(tmp_path / "encoder.json")
    result = export(
        tmp_path / "encoder.json",
        out=tmp_path / "artifact",
        judge=lambda one: 0.9 if isinstance(one, Encoder) else 0.8,
    )
    assert result["int8"]["score"] == {"float32": 0.9, "int8": 0.8} and result["int8"]["images"] == 0
    assert "int8-worse" in {finding["code"] for finding in result["findings"]}


def test_grids_of_another_graph_are_refused(quantised: Encoder) -> None:
    int8 = quantised.spec.int8
    assert int8 is not None
    fewer = Int8(grids=dict(list(int8.grids.items())[1:]))
    with pytest.raises(InputError, match=r"grids belong to another graph .*calibrate again"):
        int8_graph(float_graph(quantised), quantised, fewer)


@pytest.mark.parametrize("mean", ("0.5", "0.2/0.4/0.6"))
def test_images_enter_as_integers_whatever_their_normalisation(mean: str, tmp_path: Path) -> None:
    """Borders too: what stands for 0 outside the image is the mean, which is a whole number here."""
    backbone = f"timm:mobilenetv2_100,pad_type=same,weights=random,mean={mean},std=0.25"
    splitter = Splitter(load_backbone(parse_backbone(backbone)), 64)
    encoder = make_encoder(splitter, cut=splitter.cuts[0].name)
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    quantised, _ = in_int8(encoder, images)
    sent, wanted = session_of(quantised, tmp_path).encode(images), encoder.encode(images)
    assert signal_to_noise_db(wanted, sent) > 30
    edge = np.s_[..., [0, -1]]
    assert signal_to_noise_db(wanted[edge], sent[edge]) > 30
    assert "Cast" not in executed(tmp_path / "encoder.onnx", tmp_path)


def test_layers_are_left_in_float32_where_the_score_asks_for_it(
    encoder: Encoder, images: np.ndarray, unseen: np.ndarray
) -> None:
    wanted = encoder.encode(unseen)

    def score(one: Encoder | OrtEncoder) -> float:
        return min(60.0, signal_to_noise_db(wanted, one.encode(unseen) + 1e-9))

    loose, told = in_int8(encoder, images, judge=score, max_loss=60.0)
    assert told["in_float"] == [] and told["score"]["float32"] == 60.0
    reached = told["score"]["int8"]
    strict, told = in_int8(encoder, images, judge=score, max_loss=60.0 - reached - 0.01)
    assert told["in_float"] != [] and told["score"]["int8"] > reached
    assert strict.spec.int8 is not None and loose.spec.int8 is not None
    assert strict.spec.int8.grids.items() <= loose.spec.int8.grids.items()
    with pytest.raises(NegativeResult, match=r"in int8 the score falls by .*--max-accuracy-loss"):
        in_int8(encoder, images, judge=score, max_loss=0.0)


def test_there_must_be_images(encoder: Encoder, images: np.ndarray) -> None:
    with pytest.raises(InputError, match="no images to calibrate on"):
        in_int8(encoder, images[:0])
