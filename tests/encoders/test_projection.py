"""An encoder with a projection sends mixtures of channels; the matrix lies in a file apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from privynet.encoders import (
    Encoder,
    EncoderSpec,
    Payload,
    Projection,
    Splitter,
    build_encoder,
    load_backbone,
    make_encoder,
    parse_backbone,
    write_encoder,
    write_projection,
)
from privynet.errors import InputError

CUT, CHANNELS, OUTPUTS = "blocks.2.2", 64, 5
SALT = "00" * 16


@pytest.fixture(scope="module")
def splitter() -> Splitter:
    return Splitter(load_backbone(parse_backbone("bundled")), 32)


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((OUTPUTS, CHANNELS)) / 7


@pytest.fixture(scope="module")
def encoder(splitter: Splitter, matrix: np.ndarray) -> Encoder:
    return make_encoder(splitter, cut=CUT, projection=matrix, projection_method="eigen", salt=SALT)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def adapted(encoder: Encoder) -> Encoder:
    state = {name: 0.5 * tensor for name, tensor in encoder.graph_module.named_parameters()}
    return encoder.adapt(state, method="nopeek", alpha=0.3)


def test_it_sends_the_matrix_times_the_channels(
    splitter: Splitter, encoder: Encoder, matrix: np.ndarray, images: np.ndarray
) -> None:
    whole = make_encoder(splitter, cut=CUT).encode(images)
    wanted = np.einsum("dc,nchw->ndhw", matrix, whole.astype(np.float64))
    got = encoder.encode(images)
    assert encoder.feature_shape == got.shape[1:] == (OUTPUTS, 16, 16)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    assert encoder.projection is not None
    np.testing.assert_array_equal(encoder.projection, matrix.astype(np.float32))


def test_it_mixes_kept_channels_in_their_order(splitter: Splitter, images: np.ndarray) -> None:
    kept = [40, 3, 17]
    matrix = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 3.0]])
    mixed = make_encoder(splitter, cut=CUT, channels=kept, projection=matrix)
    sent = make_encoder(splitter, cut=CUT, channels=kept).encode(images)
    wanted = np.stack([sent[:, 0] - 2 * sent[:, 1] + 0.5 * sent[:, 2], 3 * sent[:, 2]], axis=1)
    np.testing.assert_allclose(mixed.encode(images), wanted, rtol=1e-4, atol=1e-4)


def test_rows_of_the_identity_keep_channels(splitter: Splitter, images: np.ndarray) -> None:
    kept = [40, 3, 17]
    chosen = make_encoder(splitter, cut=CUT, channels=kept).encode(images)
    rows = make_encoder(splitter, cut=CUT, projection=np.eye(CHANNELS, dtype=np.float32)[kept]).encode(images)
    np.testing.assert_allclose(rows, chosen, rtol=1e-4, atol=1e-4)


def test_noise_and_payload_come_after_the_projection(encoder: Encoder, images: np.ndarray) -> None:
    features, noise = encoder.encode(images), np.ones((5, OUTPUTS, 16, 16), np.float32)
    payload = Payload.fit(features, 4)
    sent = encoder.sending(payload=payload, noise_std=0.2).send(images, noise)
    np.testing.assert_array_equal(sent, payload.encode(features + np.float32(0.2)))


@pytest.mark.parametrize(
    "text", ("bundled", "torchvision:resnet18", "torchvision:mobilenet_v2", "timm:mobilenetv4_conv_small")
)
def test_costs_on_shapes_alone_are_those_of_the_encoder(text: str) -> None:
    backbone = parse_backbone(text, weights="random")
    shapes, loaded = (Splitter(load_backbone(backbone, shapes_only=only), 32) for only in (True, False))
    for cut in loaded.cuts[1::4]:
        for kept in (range(cut.channels), range(0, cut.channels, 2)):
            projection = np.ones((3, len(kept)))
            made = make_encoder(loaded, cut=cut.name, channels=kept, projection=projection)
            assert shapes.costs(cut.name, kept, outputs=3) == made.costs, cut.name


def test_costs_count_the_convolution(splitter: Splitter) -> None:
    without, costs = (splitter.costs(CUT, range(CHANNELS), outputs=outputs) for outputs in (None, OUTPUTS))
    assert costs.macs - without.macs == OUTPUTS * CHANNELS * 16 * 16
    assert costs.weights_kb - without.weights_kb == pytest.approx(OUTPUTS * CHANNELS * 4 / 1024)
    assert costs.payload_bytes == OUTPUTS * 16 * 16 * 4
    *before, projection = costs.kernels
    assert projection.kind == "pointwise"
    # What leaves the graph is laid out as other work reads it: that is now the projection's output.
    *same, last = without.kernels
    assert before == [*same, replace(last, reordered_elements=0, reorders=0)]


def test_the_digest_changes_with_the_matrix_and_its_method(
    splitter: Splitter, encoder: Encoder, matrix: np.ndarray
) -> None:
    def digest(values: np.ndarray, **options: object) -> str:
        return make_encoder(splitter, cut=CUT, salt=SALT, projection=values, **options).digest  # type: ignore[arg-type]

    nudged = matrix.astype(np.float32)
    nudged[2, 7] = np.nextafter(nudged[2, 7], np.float32(np.inf))
    digests = {
        encoder.digest,
        digest(nudged, projection_method="eigen"),
        digest(matrix, projection_method="given"),
        digest(matrix[::-1], projection_method="eigen"),
        make_encoder(splitter, cut=CUT, salt=SALT).digest,
    }
    assert len(digests) == 5
    assert digest(matrix.astype(np.float32), projection_method="eigen") == encoder.digest
    assert encoder.spec.model_copy(update={"projection_weights": "/there"}).digest == encoder.digest


def test_a_spec_without_projection_keeps_the_digest_it_had() -> None:
    old = {
        "backbone": "bundled:plain8",
        "weights_digest": "ab" * 32,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "input_size": 32,
        "cut": CUT,
        "channels": [3, 1, 40],
        "gathers": 0,
        "payload": {"bits": 32, "scale": 1.0, "zero_point": 0},
        "noise_std": 0.0,
        "adapted": None,
        "salt": SALT,
        "weights": None,
        "adapted_weights": None,
    }
    # written by the version that first had adapted encoders
    assert EncoderSpec.from_document(old).digest == (
        "1cf17b26dd41bd80722c218366136a1ef98921216f0c5a22b78fb366093419b1"
    )


def test_it_is_rebuilt_from_its_files_wherever_they_are(
    encoder: Encoder, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()
    written = write_encoder(encoder, tmp_path / "made" / "encoder.json")
    assert written.projection_weights == "encoder.safetensors"
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "encoder.json",
        "encoder.safetensors",
    ]
    folder = (tmp_path / "made").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    spec = EncoderSpec.read(Path("moved/encoder.json"))
    assert spec.digest == encoder.digest
    rebuilt = build_encoder(spec)
    np.testing.assert_array_equal(rebuilt.encode(images), encoder.encode(images))
    # the matrix apart from the spec
    (folder / "encoder.safetensors").rename(tmp_path / "matrix.safetensors")
    with pytest.raises(InputError, match=r"does not exist; .*--projection-weights"):
        build_encoder(spec)
    with pytest.raises(InputError, match=r"is not there; .*--projection-weights"):
        build_encoder(spec.for_shipping())
    again = build_encoder(spec.for_shipping(), projection_weights=str(tmp_path / "matrix.safetensors"))
    np.testing.assert_array_equal(again.encode(images), encoder.encode(images))


def test_an_adapted_one_finds_its_projection_in_the_adapted_weights(
    encoder: Encoder, images: np.ndarray, tmp_path: Path
) -> None:
    changed = adapted(encoder)
    assert changed.projection is not None and encoder.projection is not None
    np.testing.assert_array_equal(changed.projection, 0.5 * encoder.projection)
    assert changed.spec.projection == encoder.spec.projection and changed.digest != encoder.digest
    written = write_encoder(changed, tmp_path / "encoder.json")
    assert (written.adapted_weights, written.projection_weights) == ("encoder.safetensors", None)
    spec = EncoderSpec.read(tmp_path / "encoder.json")
    np.testing.assert_array_equal(build_encoder(spec).encode(images), changed.encode(images))
    assert changed.costs == encoder.costs
    with pytest.raises(InputError, match=r"hold the projection too; .*--adapted-weights"):
        build_encoder(spec, projection_weights=str(tmp_path / "encoder.safetensors"))


def test_an_encoder_of_the_backbone_s_weights_needs_no_second_file(
    splitter: Splitter, tmp_path: Path
) -> None:
    write_encoder(make_encoder(splitter, cut=CUT, channels=[1]), tmp_path / "encoder.json")
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.json"]
    build_encoder(EncoderSpec.read(tmp_path / "encoder.json"))


FAULTS = {
    "another matrix": ({"projection": np.zeros((OUTPUTS, CHANNELS), np.float32)}, "has digest"),
    "another shape": ({"projection": np.zeros((OUTPUTS, 3), np.float32)}, r"is float32 \(5, 3\), not"),
    "another type": ({"projection": np.zeros((OUTPUTS, CHANNELS))}, "is float64"),
    "another tensor": ({"weight": np.zeros((OUTPUTS, CHANNELS), np.float32)}, "does not hold a projection"),
    "one more tensor": (
        {"projection": np.zeros((OUTPUTS, CHANNELS), np.float32), "more": np.zeros(1)},
        "does not hold a projection alone",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_foreign_matrix_is_refused(encoder: Encoder, tmp_path: Path, fault: str) -> None:
    write_encoder(encoder, tmp_path / "encoder.json")
    tensors, message = FAULTS[fault]
    save_file(tensors, tmp_path / "encoder.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        build_encoder(EncoderSpec.read(tmp_path / "encoder.json"))
    assert "--projection-weights" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_safetensors_file_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    write_encoder(encoder, tmp_path / "encoder.json")
    for content in (b"", b"\x80\x04pickle", (tmp_path / "encoder.safetensors").read_bytes()[:-1]):
        (tmp_path / "encoder.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="is not a safetensors file"):
            build_encoder(EncoderSpec.read(tmp_path / "encoder.json"))


def test_the_same_matrix_is_written_as_the_same_bytes(matrix: np.ndarray, tmp_path: Path) -> None:
    values = matrix.astype(np.float32)
    digests = {write_projection(layout, tmp_path / "a") for layout in (values, np.asfortranarray(values))}
    (tmp_path / "a").rename(tmp_path / "b")
    write_projection(values, tmp_path / "a")
    assert len(digests) == 1 and (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    np.testing.assert_array_equal(load_file(tmp_path / "a")["projection"], values)


@pytest.mark.parametrize(
    ("values", "message"),
    (
        (np.ones((2, CHANNELS - 1)), "mixes 63 channels, the encoder has 64"),
        (np.ones(CHANNELS), "a projection of shape"),
        (np.ones((2, CHANNELS, 1, 1)), "a projection of shape"),
        (np.ones((0, CHANNELS)), "a projection of shape"),
        (np.full((2, CHANNELS), np.nan), "not finite"),
        (np.full((2, CHANNELS), 1e39), "not finite"),
    ),
)
def test_what_is_no_matrix_of_the_channels_is_refused(
    splitter: Splitter, values: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_encoder(splitter, cut=CUT, projection=values)


def test_costs_of_no_output_are_refused(splitter: Splitter) -> None:
    with pytest.raises(InputError, match="a projection to 0 channels"):
        splitter.costs(CUT, range(CHANNELS), outputs=0)


def test_files_that_the_encoder_has_no_use_for_are_refused(
    splitter: Splitter, encoder: Encoder, tmp_path: Path
) -> None:
    plain = make_encoder(splitter, cut=CUT, channels=[1]).spec
    with pytest.raises(InputError, match="has no projection"):
        build_encoder(plain, projection_weights="x")
    with pytest.raises(InputError, match="was not adapted"):
        build_encoder(encoder.spec, adapted_weights="x")
    plain.write(tmp_path / "encoder.json")
    document = json.loads((tmp_path / "encoder.json").read_text()) | {"projection_weights": "x"}
    (tmp_path / "encoder.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="projection_weights without projection"):
        EncoderSpec.read(tmp_path / "encoder.json")


@pytest.mark.parametrize(
    "projection",
    (
        {"outputs": 0, "method": "eigen", "digest": "0" * 64},
        {"outputs": 2, "method": "magic", "digest": "0" * 64},
        {"outputs": 2, "method": "given"},
        {"outputs": 2, "method": "given", "digest": "0" * 64, "matrix": [[1.0]]},
    ),
)
def test_a_spec_with_a_wrong_projection_is_refused(encoder: Encoder, projection: object) -> None:
    with pytest.raises(InputError, match="is not an encoder spec: projection"):
        EncoderSpec.from_document(encoder.spec.document() | {"projection": projection})


def test_what_is_shipped_says_nothing_of_where_the_matrix_lies(encoder: Encoder) -> None:
    spec = encoder.spec.model_copy(update={"projection_weights": "/home/me/encoder.safetensors"})
    shipped = spec.for_shipping()
    assert shipped.projection_weights is None and shipped.digest == spec.digest
    assert isinstance(shipped.projection, Projection) and shipped.outputs == OUTPUTS
