"""An encoder sends its features with noise and as its payload says; its weights can be replaced by others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from privynet.encoders import (
    Encoder,
    EncoderSpec,
    Payload,
    Splitter,
    build_encoder,
    load_backbone,
    make_encoder,
    parse_backbone,
    write_adapted,
)
from privynet.errors import InputError

SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    return make_encoder(splitter, cut="blocks.2.2", channels=(3, 1, 40))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))


def test_features_are_differentiable_in_the_images(encoder: Encoder, images: Tensor) -> None:
    assert torch.equal(encoder.features(images), encoder(images))
    real = images.float().requires_grad_()
    features = encoder.features(real)
    assert torch.equal(features, encoder(images))
    features.square().sum().backward()
    assert real.grad is not None and bool((real.grad != 0).any())
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_noise_is_scaled_and_added_before_quantising(encoder: Encoder, images: Tensor) -> None:
    noise = torch.randn(5, *SHAPE)
    noisy = encoder.sending(noise_std=0.3)
    assert torch.equal(noisy(images, noise), encoder(images) + noise * 0.3)
    assert torch.equal(noisy(images), encoder(images))
    payload = Payload(bits=4, scale=0.2, zero_point=3)
    both = encoder.sending(noise_std=0.3, payload=payload)
    wanted = payload.encode((encoder(images) + noise * 0.3).numpy())
    np.testing.assert_array_equal(both(images, noise).numpy(), wanted)
    with pytest.raises(ValueError, match="adds no noise"):
        encoder(images, noise)


@pytest.mark.parametrize("bits", (32, 8, 4, 2))
def test_encode_gives_what_the_cloud_reads(encoder: Encoder, images: Tensor, bits: int) -> None:
    features = encoder.encode(images.numpy())
    np.testing.assert_array_equal(features, encoder(images).numpy())
    payload = Payload.fit(features, bits)
    read = encoder.sending(payload=payload).encode(images.numpy())
    assert read.shape == features.shape and read.dtype == np.float32
    np.testing.assert_array_equal(read, payload.decode(payload.encode(features), SHAPE))
    error = float(np.square(read - features).mean())
    assert error <= {32: 0, 8: 1e-3, 4: 2e-2, 2: 0.3}[bits] * features.var()


def test_noise_comes_from_the_generator_whatever_the_batches(encoder: Encoder) -> None:
    noisy = encoder.sending(noise_std=0.5)
    many = np.random.default_rng(0).integers(0, 256, (130, 32, 32, 3), dtype=np.uint8)
    drawn = noisy.encode(many, generator=np.random.default_rng(7))
    generator = np.random.default_rng(7)
    parts = [noisy.encode(part, generator=generator) for part in (many[:1], many[1:50], many[50:])]
    np.testing.assert_allclose(np.concatenate(parts), drawn, atol=1e-5)
    assert not np.array_equal(noisy.encode(many[:2]), noisy.encode(many[:2]))
    added = drawn - encoder.encode(many)
    # 99,840 values: the standard error of the deviation is 0.5 / sqrt(2 n) = 0.0011
    assert abs(added.std() - 0.5) < 0.006 and abs(added.mean()) < 0.008


@pytest.mark.parametrize(("bits", "expected"), ((32, 3072), (8, 768), (4, 384), (2, 192)))
def test_costs_count_the_bytes_that_leave(encoder: Encoder, bits: int, expected: int) -> None:
    sending = encoder.sending(payload=Payload(bits=bits))
    assert sending.payload_bytes == sending.costs.payload_bytes == expected
    assert sending.costs.macs == encoder.costs.macs
    assert sending(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).nbytes == expected, (
        "what is counted is what is sent"
    )


def test_another_payload_or_noise_is_another_spec(encoder: Encoder) -> None:
    changed = [
        encoder.sending(payload=Payload(bits=8)),
        encoder.sending(payload=Payload(bits=8, zero_point=1)),
        encoder.sending(noise_std=0.1),
    ]
    assert len({one.digest for one in (encoder, *changed)}) == 4
    assert encoder.sending().digest == encoder.digest
    assert encoder.sending(payload=Payload(), noise_std=0.0).digest == encoder.digest
    for noise_std in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="noise_std"):
            encoder.sending(noise_std=noise_std)


def others(encoder: Encoder) -> dict[str, Tensor]:
    return {name: 0.5 * tensor for name, tensor in encoder.graph_module.named_parameters()}


def written(encoder: Encoder, folder: Path) -> tuple[Encoder, Path]:
    """An adapted encoder, and its spec beside its weights in a file."""
    adapted = encoder.adapt(others(encoder), method="nopeek", alpha=0.3)
    digest = write_adapted(adapted, folder / "encoder.safetensors")
    assert adapted.spec.adapted is not None and adapted.spec.adapted.digest == digest
    spec = adapted.spec.model_copy(update={"adapted_weights": "encoder.safetensors"})
    spec.write(folder / "encoder.json")
    return adapted, folder / "encoder.json"


def test_an_adapted_encoder_computes_with_the_new_weights_alone(encoder: Encoder, images: Tensor) -> None:
    before = encoder(images)
    adapted = encoder.adapt(others(encoder), method="nopeek", alpha=0.3)
    for name, parameter in adapted.graph_module.named_parameters():
        assert torch.equal(parameter, others(encoder)[name]) and not parameter.requires_grad
    assert torch.equal(encoder(images), before) and not torch.equal(adapted(images), before)
    assert adapted.feature_shape == encoder.feature_shape and adapted.digest != encoder.digest
    again = encoder.adapt(others(encoder), method="nopeek", alpha=0.3)
    assert again.digest == adapted.digest
    same = encoder.adapt(dict(encoder.graph_module.named_parameters()), method="nopeek", alpha=0.3)
    assert torch.equal(same(images), before) and same.digest != adapted.digest


def test_an_adapted_encoder_is_rebuilt_from_its_spec_and_file(
    encoder: Encoder, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted, file = written(encoder, tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    spec = EncoderSpec.read(file.relative_to(tmp_path.parent))
    assert spec.adapted_weights == str(tmp_path.resolve() / "encoder.safetensors")
    assert spec.digest == adapted.digest
    assert torch.equal(build_encoder(spec)(images), adapted(images))
    # moved
    (tmp_path / "encoder.safetensors").rename(tmp_path / "moved.safetensors")
    with pytest.raises(InputError, match=r"does not exist; .*--adapted-weights"):
        build_encoder(spec)
    moved = build_encoder(spec, adapted_weights=str(tmp_path / "moved.safetensors"))
    assert torch.equal(moved(images), adapted(images))
    with pytest.raises(InputError, match=r"are not there; .*--adapted-weights"):
        build_encoder(spec.for_shipping())
    with pytest.raises(InputError, match="was not adapted"):
        build_encoder(encoder.spec, adapted_weights=str(tmp_path / "moved.safetensors"))


def drop(state: dict[str, Tensor]) -> None:
    state.pop(next(iter(state)))


def reshape(state: dict[str, Tensor]) -> None:
    name = next(iter(state))
    state[name] = state[name][:1].clone()


def add(state: dict[str, Tensor]) -> None:
    state["more"] = torch.zeros(1)


def change(state: dict[str, Tensor]) -> None:
    name = next(iter(state))
    state[name] = state[name] + 1e-6


def spoil(state: dict[str, Tensor]) -> None:
    name = next(iter(state))
    state[name] = state[name] * float("nan")


@pytest.mark.parametrize(
    ("fault", "message"),
    (
        (drop, "is missing"),
        (reshape, r"is \(1.*, not \("),
        (add, "more is not part of the encoder"),
        (change, "have digest"),
        (spoil, "is not finite"),
    ),
    ids=lambda value: getattr(value, "__name__", None),
)
def test_adapted_weights_that_are_not_the_spec_s_are_refused(
    encoder: Encoder, tmp_path: Path, fault: object, message: str
) -> None:
    _, file = written(encoder, tmp_path)
    state = load_file(tmp_path / "encoder.safetensors")
    assert callable(fault)
    fault(state)
    save_file(state, tmp_path / "encoder.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        build_encoder(EncoderSpec.read(file))
    assert "--adapted-weights" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_safetensors_file_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    _, file = written(encoder, tmp_path)
    (tmp_path / "encoder.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="is not a safetensors file"):
        build_encoder(EncoderSpec.read(file))


def test_the_same_weights_are_written_as_the_same_bytes(encoder: Encoder, tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_adapted(encoder, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
