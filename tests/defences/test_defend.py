"""A defended spec: rebuilt from its folder, noisy and quantised as it says, refused where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privynet.artifacts import read_document
from privynet.data import DataSet
from privynet.defences import Defences, defend, defend_encoder, features_std
from privynet.encoders import (
    Encoder,
    EncoderSpec,
    Payload,
    Splitter,
    build_encoder,
    load_backbone,
    make_encoder,
    parse_backbone,
    write_encoder,
)
from privynet.errors import InputError
from privynet.exporters import export
from privynet.exporters.int8 import in_int8


@pytest.fixture
def spec(encoder: Encoder, tmp_path: Path) -> Path:
    path = tmp_path / "encoder.json"
    encoder.spec.write(path)
    return path


def run(spec: Path, out: Path, **options: Any) -> dict[str, Any]:
    return defend(spec, data="digits", out=out, accelerator="cpu", **options)


def test_all_three_at_once_rebuild_from_the_folder(spec: Path, tmp_path: Path, digits: DataSet) -> None:
    out = tmp_path / "out"
    result = run(spec, out, nopeek=1.0, steps=20, noise_share=0.5, payload_bits=4)
    assert sorted(path.name for path in out.iterdir()) == [
        "defence.json",
        "encoder.json",
        "encoder.safetensors",
    ]
    moved = out.rename(tmp_path / "moved")
    rebuilt = build_encoder(EncoderSpec.read(moved / "encoder.json"))
    assert rebuilt.digest == result["encoder_digest"]
    assert rebuilt.spec.adapted is not None and rebuilt.spec.adapted.alpha == 1.0
    assert rebuilt.payload.bits == 4 and rebuilt.noise_std == result["noise"]["std"] > 0
    assert result["payload"]["bytes"] == rebuilt.payload_bytes == 12 * 8 * 8 // 2
    assert result["payload_bytes"]["before"] == 8 * result["payload_bytes"]["after"]
    document = read_document(moved / "defence.json", "defence")
    assert document["nopeek"]["alpha"] == 1.0 and document["inputs"]["data_digest"] == digits.digest
    assert document["dcor"]["after"]["corrected"] < document["dcor"]["before"]["corrected"]
    assert "channels" not in json.dumps(document["inputs"])


def test_the_same_command_gives_the_same_encoder(spec: Path, tmp_path: Path, digits: DataSet) -> None:
    options: dict[str, Any] = {"nopeek": 1.0, "steps": 8, "noise_share": 0.1, "payload_bits": 8, "seed": 5}
    digests = [run(spec, tmp_path / name, **options)["encoder_digest"] for name in ("a", "b")]
    assert digests[0] == digests[1]
    images = digits.split("select", limit=10).images(16)
    first, second = (
        build_encoder(EncoderSpec.read(tmp_path / name / "encoder.json")).encode(
            images, generator=np.random.default_rng(0)
        )
        for name in ("a", "b")
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("option", "value"), [("noise_std", 0.3), ("noise_share", 0.5)])
def test_noise_has_the_deviation_that_was_asked_for(
    encoder: Encoder, digits: DataSet, option: str, value: float
) -> None:
    noisy = defend_encoder(encoder, Defences(**{option: value}), data=digits).encoder
    images = digits.split("head-train", limit=1000).images(16)
    clean = encoder.encode(images)
    added = noisy.encode(images, generator=np.random.default_rng(1)) - clean
    variances = clean.var(axis=(0, 2, 3), dtype=np.float64)
    expected = value * (1 if option == "noise_std" else float(np.sqrt(variances.mean())))
    assert features_std(clean) == pytest.approx(np.sqrt(variances.mean()))
    assert added.std() == pytest.approx(expected, rel=0.01)
    assert abs(added.mean()) < 0.01 * expected
    other = noisy.encode(images[:8], generator=np.random.default_rng(2))
    assert np.abs(other - noisy.encode(images[:8], generator=np.random.default_rng(3))).max() > 0


def test_fewer_bits_lie_on_a_grid_that_fits_the_features(encoder: Encoder, digits: DataSet) -> None:
    images = digits.split("select", limit=200).images(16)
    clean = encoder.encode(images)
    errors = []
    for bits in (8, 4, 2):
        coarse = defend_encoder(encoder, Defences(payload_bits=bits), data=digits).encoder
        received = coarse.encode(images)
        assert len(np.unique(received)) <= 2**bits
        errors.append(float(np.square(received - clean).mean() / clean.var()))
    assert errors == sorted(errors) and errors[0] < 1e-3 and errors[2] < 0.5


def test_what_is_not_asked_for_stays(encoder: Encoder, digits: DataSet) -> None:
    noisy = encoder.sending(payload=Payload(bits=8, scale=10.0, zero_point=0), noise_std=0.25)
    changed = defend_encoder(noisy, Defences(nopeek=0.1), data=digits, steps=4, accelerator="cpu").encoder
    assert changed.noise_std == 0.25 and changed.payload.bits == 8
    assert changed.payload.scale < 1  # fitted anew: the old grid would have sent zeros
    quiet = defend_encoder(noisy, Defences(noise_std=0.0), data=digits).encoder
    assert quiet.noise_std == 0 and quiet.payload.bits == 8


def test_a_defended_encoder_is_defended_further(spec: Path, tmp_path: Path) -> None:
    run(spec, tmp_path / "first", nopeek=1.0, steps=8)
    run(tmp_path / "first" / "encoder.json", tmp_path / "second", payload_bits=2)
    first, second = (EncoderSpec.read(tmp_path / name / "encoder.json") for name in ("first", "second"))
    assert second.adapted == first.adapted and second.payload.bits == 2
    build_encoder(second)


def test_a_projection_is_kept_beside_the_new_spec_and_trained_along(tmp_path: Path) -> None:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 16)
    matrix = np.random.default_rng(0).standard_normal((4, 12)).astype(np.float32)
    projected = make_encoder(splitter, cut="blocks.2.2", channels=range(0, 48, 4), projection=matrix)
    (tmp_path / "start").mkdir()
    write_encoder(projected, tmp_path / "start" / "encoder.json")
    run(tmp_path / "start" / "encoder.json", tmp_path / "noisy", noise_share=0.5)
    noisy = build_encoder(EncoderSpec.read(tmp_path / "noisy" / "encoder.json"))
    assert noisy.noise_std > 0 and noisy.feature_shape == (4, 8, 8)
    assert noisy.projection is not None
    np.testing.assert_array_equal(noisy.projection, matrix)
    run(tmp_path / "noisy" / "encoder.json", tmp_path / "adapted", nopeek=1.0, steps=8)
    adapted = build_encoder(EncoderSpec.read(tmp_path / "adapted" / "encoder.json"))
    assert adapted.projection is not None and adapted.noise_std == noisy.noise_std
    assert 0 < np.abs(adapted.projection - matrix).max() < 0.1
    with pytest.raises(InputError, match="--projection-weights"):
        (tmp_path / "noisy" / "encoder.safetensors").unlink()
        run(tmp_path / "noisy" / "encoder.json", tmp_path / "out", payload_bits=8)
    given = str(tmp_path / "start" / "encoder.safetensors")
    run(tmp_path / "noisy" / "encoder.json", tmp_path / "out", payload_bits=8, projection_weights=given)


def test_an_artifact_is_no_subject(spec: Path, tmp_path: Path) -> None:
    export(spec, out=tmp_path / "artifact")
    with pytest.raises(InputError, match="is an artifact, which cannot be changed"):
        run(tmp_path / "artifact", tmp_path / "out", payload_bits=8)
    assert not (tmp_path / "out").exists()


def test_an_encoder_in_int8_is_defended_before(encoder: Encoder, digits: DataSet, tmp_path: Path) -> None:
    images = digits.split("head-train", limit=8).images(encoder.input_size)
    in_int8(encoder, images)[0].spec.write(tmp_path / "int8.json")
    with pytest.raises(InputError, match=r"is in int8, and defences change the float32 encoder"):
        run(tmp_path / "int8.json", tmp_path / "out", payload_bits=8)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no defence was asked for"),
        ({"noise_std": 0.1, "noise_share": 0.1}, "exclude each other"),
        ({"noise_std": -0.1}, "--noise-std -0.1 is out of range"),
        ({"noise_share": float("inf")}, "--noise-share inf is out of range"),
        ({"nopeek": -2.0}, "--nopeek -2 is out of range"),
        ({"payload_bits": 6}, "--payload-bits 6 is not possible; allowed: 32, 8, 4, 2"),
    ],
)
def test_what_cannot_be_is_refused(spec: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(spec, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_kept_unless_forced(spec: Path, tmp_path: Path) -> None:
    run(spec, tmp_path / "out", payload_bits=8)
    with pytest.raises(InputError, match="exists"):
        run(spec, tmp_path / "out", payload_bits=4)
    assert EncoderSpec.read(tmp_path / "out" / "encoder.json").payload.bits == 8
    run(spec, tmp_path / "out", payload_bits=4, force=True)
    assert EncoderSpec.read(tmp_path / "out" / "encoder.json").payload.bits == 4


def test_nothing_half_written_is_left(spec: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match="nowhere"):
        defend(spec, data="folder:nowhere", out=tmp_path / "out", payload_bits=8)
    assert set(tmp_path.iterdir()) == before
