"""The spec says everything needed to rebuild an encoder, and gives nothing away by its digest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privynet.encoders import (
    Adapted,
    EncoderSpec,
    Payload,
    Splitter,
    build_encoder,
    load_backbone,
    make_encoder,
    parse_backbone,
)
from privynet.encoders.spec import new_salt
from privynet.errors import InputError


@pytest.fixture(scope="module")
def spec() -> EncoderSpec:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    return make_encoder(splitter, cut="blocks.2.2", channels=(3, 1, 40)).spec


def test_a_spec_survives_its_file(spec: EncoderSpec, tmp_path: Path) -> None:
    spec.write(tmp_path / "encoder.json")
    assert EncoderSpec.read(tmp_path / "encoder.json") == spec


def test_building_twice_gives_equal_weights_and_outputs(spec: EncoderSpec) -> None:
    first, second = build_encoder(spec), build_encoder(spec)
    assert first.digest == second.digest == spec.digest
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(first(images), second(images))
    assert first.feature_shape == (3, 16, 16) == tuple(first(images).shape[1:])
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_weights_of_another_digest_are_refused(spec: EncoderSpec) -> None:
    with pytest.raises(InputError, match="have digest"):
        build_encoder(spec, weights="random")


def test_code_that_only_a_document_names_is_not_imported(spec: EncoderSpec) -> None:
    evil = spec.model_copy(update={"backbone": "antigravity:fly"})
    with pytest.raises(InputError, match="names code to import"):
        build_encoder(evil)


def test_the_digest_is_salted_and_ignores_where_the_weights_lie(spec: EncoderSpec) -> None:
    assert spec.model_copy(update={"weights": "/elsewhere"}).digest == spec.digest
    assert spec.model_copy(update={"salt": new_salt()}).digest != spec.digest
    assert spec.for_shipping().weights is None and spec.for_shipping().digest == spec.digest


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_the_digest_tells_orders_of_channels_apart(
    spec: EncoderSpec, one: list[int], other: list[int]
) -> None:
    digests = [spec.model_copy(update={"channels": tuple(channels)}).digest for channels in (one, other)]
    assert (digests[0] == digests[1]) == (one == other)


@pytest.mark.parametrize(
    ("key", "value"),
    (
        ("channels", []),
        ("channels", [1, 1]),
        ("channels", [-1]),
        ("input_size", 0),
        ("weights_digest", "abc"),
        ("salt", "short"),
        ("payload", "int7"),
        ("payload", {"bits": 7}),
        ("payload", {"bits": 8, "scale": -1}),
        ("payload", {"bits": 8, "shift": 1}),
        ("noise_std", -0.1),
        ("adapted", {"method": "magic", "alpha": 1, "digest": "0" * 64}),
        ("adapted", {"method": "nopeek", "alpha": 1}),
        ("surprise", 1),
    ),
)
def test_a_spec_with_a_wrong_field_is_refused_by_its_name(
    spec: EncoderSpec, tmp_path: Path, key: str, value: object
) -> None:
    spec.write(tmp_path / "encoder.json")
    document = json.loads((tmp_path / "encoder.json").read_text()) | {key: value}
    (tmp_path / "encoder.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"is not an encoder spec: {key}"):
        EncoderSpec.read(tmp_path / "encoder.json")


def test_a_spec_that_was_written_before_payloads_had_bits_is_read(spec: EncoderSpec, tmp_path: Path) -> None:
    spec.write(tmp_path / "encoder.json")
    document = json.loads((tmp_path / "encoder.json").read_text()) | {"payload": "float32"}
    for key in ("noise_std", "adapted", "adapted_weights"):
        del document[key]
    (tmp_path / "encoder.json").write_text(json.dumps(document))
    assert EncoderSpec.read(tmp_path / "encoder.json") == spec
    assert spec.payload == Payload(bits=32)


def test_payload_noise_and_adapted_weights_survive_the_file(spec: EncoderSpec, tmp_path: Path) -> None:
    adapted = Adapted(method="nopeek", alpha=0.1, digest="a" * 64)
    full = spec.model_copy(
        update={
            "payload": Payload(bits=4, scale=0.123, zero_point=-5),
            "noise_std": 0.25,
            "adapted": adapted,
            "adapted_weights": str(tmp_path / "weights.safetensors"),
        }
    )
    full.write(tmp_path / "encoder.json")
    read = EncoderSpec.read(tmp_path / "encoder.json")
    assert read == full and read.digest == full.digest
    shipped = full.for_shipping()
    assert shipped.adapted_weights is None and shipped.adapted == adapted and shipped.digest == full.digest
    assert full.model_copy(update={"adapted": None, "adapted_weights": None}).digest != full.digest


def test_a_file_of_adapted_weights_for_an_encoder_that_was_not_adapted_is_refused(
    spec: EncoderSpec, tmp_path: Path
) -> None:
    spec.write(tmp_path / "encoder.json")
    document = json.loads((tmp_path / "encoder.json").read_text()) | {"adapted_weights": "x"}
    (tmp_path / "encoder.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="adapted_weights without adapted"):
        EncoderSpec.read(tmp_path / "encoder.json")


def test_where_the_weights_lie_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from privynet.encoders.bundled import weights_path

    shutil.copy(weights_path(), tmp_path / "copied.safetensors")
    monkeypatch.chdir(tmp_path)
    backbone = load_backbone(parse_backbone("bundled", weights="copied.safetensors"))
    made = make_encoder(Splitter(backbone, 32), cut="blocks.2.2").spec
    assert made.weights == str(tmp_path.resolve() / "copied.safetensors")
    monkeypatch.chdir("/")
    build_encoder(made)
    random = load_backbone(parse_backbone("bundled", weights="random"))
    assert make_encoder(Splitter(random, 32), cut="blocks.2.2").spec.weights == "random"


def test_a_spec_of_another_schema_version_is_refused(spec: EncoderSpec, tmp_path: Path) -> None:
    spec.write(tmp_path / "encoder.json")
    document = json.loads((tmp_path / "encoder.json").read_text()) | {"schema_version": 99}
    (tmp_path / "encoder.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="99"):
        EncoderSpec.read(tmp_path / "encoder.json")
