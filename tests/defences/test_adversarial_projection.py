"""The trained mixing: it finds what only a network can invert, and is no matter of luck or of the clock."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from privynet.defences import channel_scatter, eigen_projection, train_projection
from privynet.errors import InputError

N, R, SIDE = 600, 16, 4


@pytest.fixture(scope="module")
def examples() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]]:
    """Three channels, of which the first two tell the class alike. The magnitude of the first one is a
    place's brightness, its sign tells nothing of the image: no linear attacker sees it."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, N)
    bright = rng.uniform(0, 1, (N, SIDE, SIDE))
    images = (255 * bright.repeat(R // SIDE, 1).repeat(R // SIDE, 2)).astype(np.uint8)
    told = (2 * labels - 1)[:, None, None]
    leaking = rng.choice([-1, 1], (N, SIDE, SIDE)) * (0.2 + 2 * bright)
    features = np.stack(
        [
            leaking + 0.2 * told,
            rng.standard_normal((N, SIDE, SIDE)) + 0.2 * told,
            rng.standard_normal((N, SIDE, SIDE)),
        ],
        axis=1,
    )
    return features.astype(np.float32), labels, np.ascontiguousarray(images[..., None].repeat(3, 3))


def share(matrix: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much of the first output's variance each channel is."""
    parts = np.square(matrix[0].astype(np.float64) * features.std((0, 2, 3)))
    return np.asarray(parts / parts.sum())


def test_it_leaves_out_what_only_a_network_can_invert(
    examples: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]],
) -> None:
    features, _, _ = examples
    scatter = channel_scatter(*examples)
    parts = (scatter.between, scatter.within, scatter.predictability)
    start = share(eigen_projection(*parts, outputs=1), features)
    assert start[0] > 0.5
    trained = train_projection(
        *examples, outputs=1, weight=5.0, steps=90, budget_s=None, scatter=scatter, accelerator="cpu"
    )
    told_by = share(trained, features)
    assert told_by[0] < start[0] / 2 and told_by[1] > start[1] + 0.1


def test_its_outputs_are_uncorrelated_with_variance_one_and_the_seed_decides_them(
    examples: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]],
) -> None:
    state = torch.random.get_rng_state()
    options: dict[str, Any] = {"outputs": 2, "steps": 8, "budget_s": None, "accelerator": "cpu"}
    first, again, other = (train_projection(*examples, seed=seed, **options) for seed in (1, 1, 2))
    assert first.shape == (2, 3) and first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    total = channel_scatter(*examples).total
    np.testing.assert_allclose(first @ total @ first.T, np.eye(2), atol=1e-2)
    torch.testing.assert_close(torch.random.get_rng_state(), state)


def test_the_start_is_left_when_there_are_hardly_any_steps(
    examples: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]],
) -> None:
    start = np.array([[0.0, 1.0, 1.0]], np.float32)
    given = start.copy()
    found = train_projection(*examples, outputs=1, start=start, steps=1, budget_s=None, accelerator="cpu")
    assert share(found, examples[0])[0] < 0.01
    np.testing.assert_array_equal(start, given)


@pytest.mark.parametrize("side", [1, 2, 5, 16])
def test_maps_of_any_size_can_be_mixed(side: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((70, 4, side, side)).astype(np.float16)
    images = rng.integers(0, 256, (70, R, R, 3), np.uint8)
    labels = rng.choice([3, 8], 70)
    matrix = train_projection(features, labels, images, outputs=3, steps=3, accelerator="cpu")
    assert matrix.shape == (3, 4) and np.isfinite(matrix).all()


def test_the_clock_ends_it(
    examples: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]],
) -> None:
    class Steps:
        taken = 0

        def advance(self, steps: float = 1, *, note: str | None = None) -> None:
            Steps.taken += 1

    class Bars:
        def task(self, description: str, total: float | None = None) -> Any:
            return nullcontext(Steps())

        def warn(self, message: str) -> None: ...

    train_projection(*examples, outputs=1, steps=100_000, budget_s=0.5, accelerator="cpu", progress=Bars())
    assert 0 < Steps.taken < 100_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": 0}, "3 channels to 0; allowed: 1 to 3"),
        ({"outputs": 4}, "3 channels to 4"),
        ({"outputs": 1, "weight": -1.0}, "weight -1"),
        ({"outputs": 1, "weight": float("nan")}, "weight nan"),
        ({"outputs": 1, "steps": 0}, "steps 0"),
        ({"outputs": 1, "budget_s": 0.0}, "budget 0"),
        ({"outputs": 1, "start": np.ones((2, 3))}, r"a start of shape \(2, 3\); needed: \(1, 3\)"),
        ({"outputs": 1, "accelerator": "tpu"}, "unknown accelerator 'tpu'"),
    ],
)
def test_what_cannot_be_is_refused(
    examples: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]],
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        train_projection(*examples, **{"accelerator": "cpu", **options})
