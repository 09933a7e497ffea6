"""The payload: integers and bytes as the formula says, equal in numpy, torch and ONNX Runtime."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from privynet.encoders import Payload
from privynet.encoders.payload import received, sent
from privynet.errors import InputError
from privynet.exporters.onnx_file import to_onnx

BITS = (8, 4, 2)
payloads = st.builds(
    Payload,
    bits=st.sampled_from(BITS),
    scale=st.floats(1e-3, 1e3),
    zero_point=st.integers(-300, 300),
)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))


def around_the_grid(payload: Payload, n: int, shape: tuple[int, int, int], seed: int) -> NDArray[np.float32]:
    """Float32 (n, *shape): values on the grid, half-way between, just beside, and beyond both ends."""
    generator = np.random.default_rng(seed)
    halves = generator.integers(-8, 2 * payload.top + 8, (n, *shape)) / 2
    values = (halves - payload.zero_point) * payload.scale
    nudged = generator.choice([0, 1e-7, -1e-7, 1e-2, 3e8], values.shape)
    return (values + nudged * payload.scale).astype(np.float32)


@given(payload=payloads, shape=shapes, n=st.integers(0, 3), seed=st.integers(0, 99))
def test_packing_and_unpacking_are_inverse(
    payload: Payload, shape: tuple[int, int, int], n: int, seed: int
) -> None:
    steps = np.random.default_rng(seed).integers(0, payload.top + 1, (n, *shape), dtype=np.uint8)
    packed = payload.pack(steps)
    assert packed.shape == (n, *payload.sent_shape(shape)) and packed.dtype == np.uint8
    assert packed[0].nbytes == payload.bytes(shape) if n else True
    np.testing.assert_array_equal(payload.unpack(packed, shape), steps)


@given(payload=payloads, shape=shapes, seed=st.integers(0, 99))
def test_bytes_are_the_digits_of_one_long_little_endian_number(
    payload: Payload, shape: tuple[int, int, int], seed: int
) -> None:
    steps = np.random.default_rng(seed).integers(0, payload.top + 1, (1, *shape), dtype=np.uint8)
    number = sum(int(step) << (payload.bits * place) for place, step in enumerate(steps.ravel()))
    assert payload.pack(steps).tobytes() == number.to_bytes(payload.bytes(shape), "little")


@given(payload=payloads, seed=st.integers(0, 999))
def test_integers_and_values_are_those_of_the_formula(payload: Payload, seed: int) -> None:
    features = around_the_grid(payload, 2, (3, 2, 2), seed)
    got = payload.quantise(features)
    scale = np.float32(payload.scale)
    for value, step in zip(features.ravel(), got.ravel(), strict=True):
        # Python rounds half to even as well
        wanted = min(max(round(float(value / scale)) + payload.zero_point, 0), payload.top)
        assert step == wanted
    read = payload.decode(payload.pack(got), (3, 2, 2))
    np.testing.assert_allclose(
        read, (got.astype(float) - payload.zero_point) * payload.scale, rtol=1e-6, atol=1e-12
    )


@settings(deadline=None)
@given(payload=payloads, shape=shapes, seed=st.integers(0, 999))
def test_torch_sends_and_reads_what_numpy_does(
    payload: Payload, shape: tuple[int, int, int], seed: int
) -> None:
    features = around_the_grid(payload, 2, shape, seed)
    out = sent(torch.from_numpy(features), payload)
    np.testing.assert_array_equal(out.numpy(), payload.encode(features))
    np.testing.assert_array_equal(
        received(out, payload, shape).numpy(), payload.decode(payload.encode(features), shape)
    )


class Sending(nn.Module):
    """What an encoder does behind its network, with or without noise."""

    def __init__(self, payload: Payload, noise_std: float) -> None:
        super().__init__()
        self.payload, self.noise_std = payload, noise_std

    def forward(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is not None:
            features = features + noise * self.noise_std
        return sent(features, self.payload)


@pytest.mark.parametrize("noise_std", (0.0, 0.7))
@pytest.mark.parametrize("bits", (32, *BITS))
def test_onnx_runtime_sends_the_same_bytes(tmp_path: Path, bits: int, noise_std: float) -> None:
    shape = (3, 3, 5)  # 45 values: the last byte is not full
    payload = Payload() if bits == 32 else Payload(bits=bits, scale=0.137, zero_point=2**bits // 3)
    features = around_the_grid(payload if bits < 32 else Payload(bits=8), 40, shape, 0)
    noise = np.random.default_rng(1).standard_normal(features.shape, np.float32)
    arrays = [features, noise] if noise_std else [features]
    module = Sending(payload, noise_std)
    names = ["features", "noise"][: len(arrays)]
    examples = [torch.from_numpy(array[:1]) for array in arrays]
    model = to_onnx(module, examples, input_names=names, output_name="out")
    (tmp_path / "sending.onnx").write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(tmp_path / "sending.onnx", providers=["CPUExecutionProvider"])
    for row in range(len(features)):
        feed = {name: array[row : row + 1] for name, array in zip(names, arrays, strict=True)}
        (got,) = session.run(None, feed)
        by_torch = module(*(torch.from_numpy(value) for value in feed.values())).numpy()
        added = feed["noise"] * np.float32(noise_std) if noise_std else np.float32(0)
        by_numpy = payload.encode(feed["features"] + added)
        assert got.dtype == by_numpy.dtype and got[0].nbytes == payload.bytes(shape)
        np.testing.assert_array_equal(got, by_torch)
        np.testing.assert_array_equal(got, by_numpy)


def test_payload_bytes_round_up() -> None:
    assert [Payload(bits=bits).bytes((3, 3, 5)) for bits in (32, 8, 4, 2)] == [180, 45, 23, 12]
    assert Payload(bits=2).sent_shape((3, 3, 5)) == (12,)
    assert Payload(bits=8).sent_shape((3, 3, 5)) == (3, 3, 5)


def test_what_is_no_payload_of_these_features_is_refused() -> None:
    payload = Payload(bits=4)
    for other in (np.zeros((1, 22), np.uint8), np.zeros((1, 23), np.int8), np.zeros((1, 3, 3, 5), np.uint8)):
        with pytest.raises(InputError, match="a payload of"):
            payload.decode(other, (3, 3, 5))


@pytest.mark.parametrize(
    "fields",
    (
        {"bits": 16},
        {"bits": 8, "scale": 0},
        {"bits": 8, "scale": math.inf},
        {"bits": 8, "scale": math.nan},
        {"bits": 8, "zero_point": 2**21},
        {"scale": 0.5},
    ),
)
def test_a_payload_that_cannot_be_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Payload(**fields)


def squared_error(payload: Payload, values: NDArray[np.float64]) -> float:
    return float(((payload.dequantise(payload.quantise(values)) - values) ** 2).sum())


def least_by_brute_force(values: NDArray[np.float64], bits: int) -> float:
    """The least squared error over 100 scales and every zero point that reaches a value."""
    top = 2**bits - 1
    full = (values.max() - values.min()) / top
    best = math.inf
    for scale in np.geomspace(full * {8: 0.3, 4: 0.1, 2: 0.03}[bits], 2 * full, 100):
        steps = np.rint(values / scale)
        for zero_point in np.arange(-steps.max(), max(top - steps.max(), -steps.min()) + 1):
            read = ((steps + zero_point).clip(0, top) - zero_point) * scale
            best = min(best, float(((read - values) ** 2).sum()))
    return best


SAMPLES = {
    "relu": lambda g: g.normal(size=1000).clip(0),
    "heavy tails": lambda g: g.standard_t(3, size=1000),
    "far from zero": lambda g: 7 + g.random(1000),
    "negative": lambda g: -np.exp(g.normal(size=1000)),
    "two values": lambda g: np.array([0.4, 1.6]),
}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", SAMPLES)
def test_the_fitted_payload_is_as_good_as_brute_force(kind: str, bits: int) -> None:
    values = SAMPLES[kind](np.random.default_rng(0))
    fitted = Payload.fit(values, bits)
    # scales of a ladder: a few values more or less come to lie on the grid by chance
    assert squared_error(fitted, values) <= 1.03 * least_by_brute_force(values, bits) + 1e-8 * len(values)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", SAMPLES)
def test_sums_in_another_order_give_the_same_scale(kind: str, bits: int) -> None:
    values = SAMPLES[kind](np.random.default_rng(0))
    last_bits = np.random.default_rng(1).uniform(1 - 1e-7, 1 + 1e-7, values.shape)
    assert Payload.fit(values * last_bits, bits) == Payload.fit(values, bits)


def test_fitting_depends_on_the_values_alone() -> None:
    features = np.random.default_rng(0).normal(size=(4, 3, 5, 5)).astype(np.float32)
    shuffled = np.random.default_rng(1).permutation(features.ravel())
    assert Payload.fit(features, 4) == Payload.fit(shuffled, 4)
    assert Payload.fit(features, 32) == Payload()


@pytest.mark.parametrize("value", (0.0, 3.3, -2.5, 1e-30, 1e6))
@pytest.mark.parametrize("bits", BITS)
def test_a_constant_is_kept(value: float, bits: int) -> None:
    values = np.full(5, value)
    payload = Payload.fit(values, bits)
    np.testing.assert_allclose(payload.dequantise(payload.quantise(values)), values, rtol=5e-3, atol=1e-20)


@pytest.mark.parametrize("values", ([], [1.0, math.nan], [math.inf]))
def test_features_without_finite_values_are_refused(values: list[float]) -> None:
    with pytest.raises(InputError, match="cannot be fitted"):
        Payload.fit(np.array(values), 8)


def test_more_values_than_are_looked_at_give_nearly_the_best() -> None:
    values = np.random.default_rng(0).laplace(size=2**22 + 2**18)
    payload = Payload.fit(values, 2)
    errors = [
        squared_error(Payload(bits=2, scale=payload.scale * factor, zero_point=payload.zero_point), values)
        for factor in (0.9, 1.0, 1.1)
    ]
    assert errors[1] == min(errors)
