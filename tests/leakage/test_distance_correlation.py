"""Distance correlation against the ``dcor`` package, its invariances, and the loss that is trained with."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from privynet.errors import InputError
from privynet.leakage.distance_correlation import dcor_loss, distance_correlation

Array = NDArray[np.float64]
DCOR = """
import pickle, sys
import dcor

while sys.stdin.buffer.peek(1):
    x, y = pickle.load(sys.stdin.buffer)
    print(float(dcor.distance_correlation(x, y)), float(dcor.u_distance_correlation_sqr(x, y)), flush=True)
"""
"""In a process of its own: the threads and the compiler that the package brings stay out of torch's."""

Oracle = Callable[[Array, Array], tuple[float, float]]


def dependent(n: int, dim_x: int, dim_y: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim_x))
    return x, np.abs(x[:, :1]) + 0.3 * rng.standard_normal((n, dim_y))


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    """Biased distance correlation and the bias-corrected squared one, as the ``dcor`` package has them."""
    with subprocess.Popen(
        [sys.executable, "-c", DCOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        sent, received = process.stdin, process.stdout

        def ask(x: Array, y: Array) -> tuple[float, float]:
            pickle.dump((x.reshape(len(x), -1), y.reshape(len(y), -1)), sent)
            sent.flush()
            biased, corrected = map(float, received.readline().split())
            return biased, corrected

        yield ask


@pytest.mark.parametrize(
    ("n", "dim_x", "dim_y", "block"),
    [(4, 1, 1, 2), (5, 2, 1, 512), (101, 1, 1, 10), (128, 3, 200, 64), (201, 300, 70, 64), (150, 65, 5, 149)],
)
def test_both_estimates_equal_the_dcor_package(
    oracle: Oracle, n: int, dim_x: int, dim_y: int, block: int
) -> None:
    x, y = dependent(n, dim_x, dim_y)
    biased, corrected = oracle(x, y)
    found = distance_correlation(x, y, block=block)
    assert found.n == n
    assert found.biased == pytest.approx(biased, abs=1e-10)
    assert found.biased_squared == pytest.approx(biased**2, abs=1e-10)
    assert found.corrected == pytest.approx(corrected, abs=1e-10)
    single = distance_correlation(x.astype(np.float32), y.astype(np.float32), block=block)
    assert single.biased == pytest.approx(biased, abs=1e-5)
    assert single.corrected == pytest.approx(corrected, abs=1e-5)


@pytest.mark.parametrize("copies", [2, 50])
def test_equal_rows_in_float32_equal_the_dcor_package(oracle: Oracle, copies: int) -> None:
    """Their distance is 0, where the difference of squares in float32 leaves only rounding."""
    x, y = (np.repeat(side, copies, axis=0) for side in dependent(200 // copies, 300, 100, seed=3))
    x, y = x.astype(np.float32).astype(np.float64), y.astype(np.float32).astype(np.float64)
    biased, corrected = oracle(x, y)
    found = distance_correlation(x.astype(np.float32), y.astype(np.float32), block=64)
    assert found.biased == pytest.approx(biased, abs=1e-5)
    assert found.corrected == pytest.approx(corrected, abs=1e-5)


def test_images_as_bytes_far_from_zero_and_tensors_are_read_as_numbers(oracle: Oracle) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(200, 256, (60, 8, 8, 3)).astype(np.uint8)
    features = images[:, ::2, ::2].mean(-1) + rng.standard_normal((60, 4, 4))
    biased, corrected = oracle(images.astype(np.float64), features)
    found = distance_correlation(images, torch.from_numpy(features).requires_grad_())
    assert (found.biased, found.corrected) == pytest.approx((biased, corrected), abs=1e-5)
    half = distance_correlation(images, torch.from_numpy(features).bfloat16())
    assert half.corrected == pytest.approx(corrected, abs=0.02)


def test_independent_gaussians_in_high_dimension_score_zero_only_when_corrected() -> None:
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(20):
        x, z = (rng.standard_normal((128, dim)).astype(np.float32) for dim in (3072, 2048))
        scores.append(distance_correlation(x, z))
    corrected = np.array([score.corrected for score in scores])
    assert min(score.biased for score in scores) > 0.9
    assert abs(corrected.mean()) < 4 * corrected.std() / np.sqrt(len(corrected))
    assert np.abs(corrected).max() < 0.1


def test_a_square_depends_on_its_root_though_uncorrelated() -> None:
    x = np.random.default_rng(0).standard_normal(2000)
    found = distance_correlation(x, x**2)
    assert found.biased > 0.45
    assert found.corrected > 0.2


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(4, 40),
    scale=st.floats(1e-20, 1e20),
    shift=st.floats(-100, 100),
    block=st.integers(1, 50),
)
def test_moving_scaling_turning_and_swapping_change_nothing(
    seed: int, n: int, scale: float, shift: float, block: int
) -> None:
    x, y = dependent(n, 5, 3, seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 5)))[0]
    before, after = (
        distance_correlation(x, y),
        distance_correlation(y, scale * (x @ rotation + shift), block=block),
    )
    assert after.biased == pytest.approx(before.biased, abs=1e-8)
    assert after.corrected == pytest.approx(before.corrected, abs=1e-8)
    assert -1 <= after.corrected <= 1 and 0 <= after.biased <= 1
    itself = distance_correlation(x, scale * x)
    assert (itself.biased, itself.corrected) == pytest.approx((1, 1))


@pytest.mark.parametrize("width", [1, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_side_scores_zero(width: int, dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal((30, width)).astype(dtype)
    found = distance_correlation(x, np.full((30, width), 0.1, dtype))
    assert (found.biased, found.corrected) == (0, 0)


def test_equal_distances_leave_nothing_to_correct() -> None:
    """One-hot rows are all equally far apart, so that the U-centred distances vanish."""
    x = np.random.default_rng(0).standard_normal((100, 100)).astype(np.float32)
    assert distance_correlation(x, np.eye(100, dtype=np.float32)).corrected == 0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 2)), "n at least 4"),
        (np.ones((5, 2)), np.ones((6, 2)), "5 samples of x, 6 of y"),
        (np.ones((5, 0)), np.ones((5, 2)), "shape"),
        (np.array(1.0), np.ones((5, 2)), "shape"),
        (np.ones((5, 2)), np.array([["a"]] * 5), "real numbers"),
        (np.array([0, 1, 2, np.nan]), np.arange(4.0), "x has values that are not finite"),
        (np.arange(4.0), np.array([0, 1, 2, -np.inf]), "y has values that are not finite"),
        (np.arange(4.0), np.array([np.inf, 1, 2, 3]), "y has values that are not finite"),
    ],
)
def test_bad_input_is_named(x: Array, y: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        distance_correlation(x, y)
    with pytest.raises(InputError, match="block"):
        distance_correlation(np.arange(4.0), np.arange(4.0), block=0)


@pytest.mark.parametrize(("n", "dim_x", "dim_z"), [(4, 1, 1), (33, 12, 5), (64, 3072, 256)])
def test_the_loss_is_the_corrected_estimate(oracle: Oracle, n: int, dim_x: int, dim_z: int) -> None:
    x, z = dependent(n, dim_x, dim_z)
    _, corrected = oracle(x, z)
    double = [torch.from_numpy(side).reshape(n, -1, 1) for side in (x, z)]
    assert dcor_loss(*double).item() == pytest.approx(corrected, abs=1e-7)
    assert dcor_loss(*(side.float() for side in double)).item() == pytest.approx(corrected, abs=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert dcor_loss(*(side.float() for side in double)).item() == pytest.approx(corrected, abs=1e-4)


def test_the_losss_gradient_is_that_of_finite_differences() -> None:
    x, z = (torch.from_numpy(side).requires_grad_() for side in dependent(9, 4, 3))
    assert torch.autograd.gradcheck(dcor_loss, (x, z), atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e6])
def test_gradients_are_finite_where_distances_are_zero(dtype: torch.dtype, scale: float) -> None:
    x = torch.randn(16, 20, generator=torch.Generator().manual_seed(0), dtype=dtype)
    z = (scale * x[:, :3]).clone()
    z[4:] = z[4]
    z.requires_grad_()
    loss = dcor_loss(x, z)
    loss.backward()
    assert loss.isfinite() and z.grad is not None and z.grad.isfinite().all()
    assert scale > 1e-10 or abs(loss.item()) < 1e-6


def test_training_with_the_loss_removes_what_features_tell() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 4, generator=generator)
    noise = torch.randn(2000, 4, generator=generator)
    mix = torch.tensor(0.5, requires_grad=True)

    def features(rows: slice | Tensor) -> Tensor:
        return mix * x[rows] + (1 - mix) * noise[rows]

    before = distance_correlation(x, features(slice(None))).corrected
    optimiser = torch.optim.Adam([mix], lr=0.02)
    for _ in range(60):
        rows = torch.randint(2000, (128,), generator=generator)
        optimiser.zero_grad()
        dcor_loss(x[rows], features(rows)).backward()
        optimiser.step()
    assert before > 0.3
    assert distance_correlation(x, features(slice(None))).corrected < 0.02


def test_a_loss_over_too_few_samples_is_refused() -> None:
    with pytest.raises(InputError, match="4 or more"):
        dcor_loss(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(InputError, match="as many of each"):
        dcor_loss(torch.ones(5, 2), torch.ones(6, 2))
