"""ONNX Runtime sessions take what is an encoder or a head, and refuse the rest in one line."""

import contextlib
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper
from onnxruntime.capi import onnxruntime_pybind11_state

from privynet.artifacts import OrtEncoder, OrtHead, Payload, file_digest
from privynet.errors import InputError, PrivynetError

from .conftest import encoder_graph, head_graph, sending_graph


def test_encoder_runs_image_by_image(tmp_path):
    encoder_graph(tmp_path / "a.onnx")
    encoder = OrtEncoder.open(tmp_path / "a.onnx")
    assert encoder.digest == file_digest(tmp_path / "a.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    features = encoder.encode(images)
    assert features.dtype == np.float32
    assert np.array_equal(features[:, 0], images[..., 0] / np.float32(2))
    assert encoder.encode(images[:0]).shape == (0, 1, 4, 4)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8), np.zeros((2, 5, 5, 3), np.uint8)]
)
def test_images_that_do_not_fit_are_refused(tmp_path, images):
    encoder_graph(tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="expected uint8 images"):
        OrtEncoder.open(tmp_path / "a.onnx").encode(images)


def test_noise_is_scaled_in_the_graph_and_drawn_from_the_generator(tmp_path):
    sending_graph(tmp_path / "a.onnx")
    encoder = OrtEncoder.open(tmp_path / "a.onnx", noise_std=0.5)
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    noise = np.random.default_rng(1).standard_normal((3, 1, 4, 4), np.float32)
    red = images[:, None, :, :, 0].astype(np.float32)
    np.testing.assert_array_equal(encoder.send(images), red)
    np.testing.assert_array_equal(encoder.send(images, noise), red + noise * np.float32(0.5))
    drawn = encoder.encode(images, generator=np.random.default_rng(1))
    np.testing.assert_array_equal(drawn, red + noise * np.float32(0.5))
    assert encoder.payload_bytes == 64
    assert not np.array_equal(encoder.encode(images), encoder.encode(images))
    many = encoder.encode(np.repeat(images, 400, axis=0)) - np.repeat(red, 400, axis=0)
    # 19,200 values: the standard error of the deviation is 0.5 / sqrt(2 n) = 0.0026
    assert abs(many.std() - 0.5) < 0.013 and abs(many.mean()) < 0.018


def test_a_payload_of_bytes_is_read_with_its_scale_and_zero_point(tmp_path):
    sending_graph(tmp_path / "a.onnx", bytes_sent=True)
    payload = Payload(bits=8, scale=0.25, zero_point=10)
    encoder = OrtEncoder.open(tmp_path / "a.onnx", noise_std=0.5, payload=payload)
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    red = images[:, None, :, :, 0]
    sent = encoder.send(images)
    assert sent.dtype == np.uint8
    np.testing.assert_array_equal(sent, red)
    silent = encoder.payload.decode(sent, encoder.feature_shape)
    np.testing.assert_array_equal(silent, (red.astype(np.float32) - 10) / 4)
    assert encoder.payload_bytes == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "2 inputs and 1 outputs"),
        ({"noise_std": 1.0, "payload": Payload(bits=8)}, "is not an encoder"),
        ({"noise_std": 1.0, "payload": Payload(bits=4)}, "is not an encoder"),
        ({"noise_std": 1.0, "feature_shape": (2, 4, 4)}, "is not an encoder"),
    ],
)
def test_graph_of_another_payload_or_noise_is_refused(tmp_path, options, message):
    sending_graph(tmp_path / "a.onnx")
    with pytest.raises(InputError, match=message):
        OrtEncoder.open(tmp_path / "a.onnx", **options)


def test_noise_of_another_type_is_no_noise(tmp_path):
    sending_graph(tmp_path / "a.onnx", noise_type=TensorProto.DOUBLE)
    with pytest.raises(InputError, match="is not an encoder"):
        OrtEncoder.open(tmp_path / "a.onnx", noise_std=1.0)


def test_noise_that_does_not_fit_is_refused(tmp_path):
    images = np.zeros((2, 4, 4, 3), np.uint8)
    sending_graph(tmp_path / "noisy.onnx")
    noisy = OrtEncoder.open(tmp_path / "noisy.onnx", noise_std=1.0)
    for noise in (np.zeros((2, 1, 4, 4)), np.zeros((1, 1, 4, 4), np.float32)):
        with pytest.raises(ValueError, match="expected float32 noise"):
            noisy.send(images, noise)
    encoder_graph(tmp_path / "silent.onnx")
    with pytest.raises(ValueError, match="adds no noise"):
        OrtEncoder.open(tmp_path / "silent.onnx").send(images, np.zeros((2, 1, 4, 4), np.float32))


@pytest.mark.parametrize("batch", ["n", 1])
def test_head_runs_any_number_of_features(tmp_path, batch):
    head_graph(tmp_path / "head.onnx", batch=batch)
    head = OrtHead.open(tmp_path / "head.onnx")
    assert (head.feature_shape, head.classes) == ((2, 1, 1), 3)
    features = np.random.default_rng(0).normal(size=(300, 2, 1, 1)).astype(np.float32)
    expected = features[:, :, 0, 0] @ np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.testing.assert_allclose(head.logits(features), expected, rtol=1e-6, atol=1e-6)
    assert head.logits(features[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match="expected float32 features"):
        head.logits(features[:, :1])


def test_encoder_is_no_head_and_head_no_encoder(tmp_path):
    encoder_graph(tmp_path / "encoder.onnx")
    head_graph(tmp_path / "head.onnx")
    with pytest.raises(InputError, match=r"is not a head: it maps image uint8 \(1, 4, 4, 3\)"):
        OrtHead.open(tmp_path / "encoder.onnx")
    with pytest.raises(InputError, match=r"is not an encoder: it maps features float32 \(n, 2, 1, 1\)"):
        OrtEncoder.open(tmp_path / "head.onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": "n"}, "is not an encoder"),
        ({"batch": 2}, "is not an encoder"),
        ({"dtype": TensorProto.FLOAT}, "is not an encoder"),
        ({"outputs": 2}, "1 inputs and 2 outputs"),
    ],
)
def test_graph_of_another_form_is_refused(tmp_path, options, message):
    encoder_graph(tmp_path / "a.onnx", **options)
    with pytest.raises(InputError, match=message):
        OrtEncoder.open(tmp_path / "a.onnx")


@pytest.mark.parametrize("data", [b"", b"no onnx", b"\x08\x0a" * 50])
@pytest.mark.parametrize("kind", [OrtEncoder, OrtHead])
def test_file_that_is_not_onnx_is_refused_in_one_line(tmp_path, data, kind):
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(InputError, match="cannot be loaded by ONNX Runtime") as caught:
        kind.open(tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["EPFail", "EngineError", "Fail", "ModelLoaded", "NotFound"])
def test_whatever_onnx_runtime_raises_is_an_error_of_ours(tmp_path, name, monkeypatch):
    def fail(*_, **__):
        raise getattr(onnxruntime_pybind11_state, name)("no\nway")

    head_graph(tmp_path / "head.onnx")
    head = OrtHead.open(tmp_path / "head.onnx")
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", fail)
    with pytest.raises(PrivynetError, match="ONNX Runtime failed: no way"):
        head.logits(np.zeros((1, 2, 1, 1), np.float32))
    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(InputError, match="cannot be loaded by ONNX Runtime: no way"):
        OrtHead.open(tmp_path / "head.onnx")


@settings(max_examples=100, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_graph_loads_or_is_refused_and_nothing_else(tmp_path_factory, place, value, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    head_graph(path)
    data = bytearray(path.read_bytes())
    position = int(place * len(data))
    data[position] = value
    path.write_bytes(data[:position] if cut else data)
    with contextlib.suppress(PrivynetError):
        head = OrtHead.open(path)
        head.logits(np.zeros((1, *head.feature_shape), np.float32))


def test_name_that_is_no_text_is_refused_and_standard_output_stays_clean(tmp_path, capfd):
    head_graph(tmp_path / "a.onnx")
    data = (tmp_path / "a.onnx").read_bytes()
    (tmp_path / "a.onnx").write_bytes(data.replace(b"weight", b"weigh\xff", 1))
    with pytest.raises(InputError, match="cannot be loaded"):
        OrtHead.open(tmp_path / "a.onnx")
    assert capfd.readouterr().out == ""


def test_missing_file_and_too_few_threads_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        OrtEncoder.open(tmp_path / "nowhere.onnx")
    encoder_graph(tmp_path / "a.onnx")
    with pytest.raises(InputError, match="allowed: 1 or more"):
        OrtEncoder.open(tmp_path / "a.onnx", threads=0)


@pytest.mark.parametrize("where", ["../secret.bin", "{folder}/secret.bin"])
def test_weights_outside_the_folder_are_not_read(tmp_path, where):
    (tmp_path / "secret.bin").write_bytes(np.ones(6, np.float32).tobytes())
    (tmp_path / "model").mkdir()
    weight = helper.make_tensor(
        "weight", TensorProto.FLOAT, [2, 3], np.ones(6, np.float32).tobytes(), raw=True
    )
    external_data_helper.set_external_data(weight, where.format(folder=tmp_path))
    weight.ClearField("raw_data")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["features"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "head",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 2, 1, 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (tmp_path / "model" / "head.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="cannot be loaded"):
        OrtHead.open(tmp_path / "model" / "head.onnx")


def test_running_an_encoder_needs_no_torch(tmp_path):
    encoder_graph(tmp_path / "a.onnx")
    script = (
        "import sys, pathlib, numpy; from privynet.artifacts import OrtEncoder;"
        "OrtEncoder.open(pathlib.Path(sys.argv[1])).encode(numpy.zeros((1, 4, 4, 3), numpy.uint8));"
        "assert 'torch' not in sys.modules and 'onnx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "a.onnx"], check=True)
