from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from privynet.errors import InputError, PrivynetError
from privynet.leakage import Pairs, mean_image
from privynet.leakage.decoders import fit_ridge

MakePairs = Callable[..., Pairs]


def _error(rebuilt: NDArray[np.float32], pairs: Pairs) -> float:
    return float(np.mean((rebuilt - pairs.images / 255) ** 2))


def test_linear_encoder_is_inverted_as_well_as_by_least_squares(make_pairs: MakePairs) -> None:
    mixing = np.random.default_rng(0).normal(size=(16 * 16 * 3, 24)).astype(np.float32)

    def project(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return (planes.reshape(len(planes), -1) @ mixing)[:, :, None, None]

    train, val, test = (make_pairs(project, n, 16, n) for n in (150, 80, 81))
    ridge = fit_ridge(train, val)
    x, y = (np.c_[p.features[:, :, 0, 0], np.ones(len(p))] for p in (train, test))
    weights = np.linalg.lstsq(x, train.images.reshape(150, -1) / 255, rcond=None)[0]
    least_squares = (y @ weights).reshape(test.images.shape)
    assert _error(ridge.reconstruct(test.features), test) <= _error(least_squares, test) * 1.01
    assert ridge.whole


def test_blurred_images_are_sharpened_from_a_wide_neighbourhood(make_pairs: MakePairs) -> None:
    rng = np.random.default_rng(0)

    def blurred(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return torch.nn.functional.avg_pool2d(torch.from_numpy(planes), 5, stride=2, padding=2).numpy()

    def noisy_pairs(n: int) -> Pairs:
        images = rng.integers(256, size=(n, 16, 16, 3)).astype(np.uint8)
        planes = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        return Pairs(blurred(planes), images, np.zeros(n, np.int64))

    train, val, test = (noisy_pairs(n) for n in (400, 100, 101))
    ridge = fit_ridge(train, val)
    place = train.features[:, :, 4, 4]
    weights = np.linalg.lstsq(np.c_[place, np.ones(len(place))], train.images[:, 8, 8] / 255, rcond=None)[0]
    alone = np.c_[test.features[:, :, 4, 4], np.ones(len(test))] @ weights
    truth = test.images[:, 8, 8] / 255
    rebuilt = ridge.reconstruct(test.features)
    assert ridge.kernel >= 3
    assert np.mean((rebuilt[:, 8, 8] - truth) ** 2) < 0.8 * np.mean((alone - truth) ** 2)


def test_what_an_encoder_moved_elsewhere_is_found_there(make_pairs: MakePairs) -> None:
    order = np.random.default_rng(0).permutation(64)

    def shuffled(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        blocks = torch.pixel_unshuffle(torch.from_numpy(planes), 2).flatten(2)[:, :, order]
        return blocks.view(len(planes), 12, 8, 8).numpy()

    train, val, test = (make_pairs(shuffled, n, 16, n) for n in (300, 50, 51))
    ridge = fit_ridge(train, val)
    assert ridge.whole
    assert _error(ridge.reconstruct(test.features), test) < 1e-4


def test_features_without_information_give_the_mean_image(make_pairs: MakePairs) -> None:
    rng = np.random.default_rng(0)

    def noise(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return rng.normal(size=(len(planes), 6, 4, 4)).astype(np.float32)

    train, val, test = (make_pairs(noise, n, 16, n) for n in (200, 100, 101))
    blind = np.broadcast_to(mean_image(train.images), test.images.shape)
    rebuilt = fit_ridge(train, val).reconstruct(test.features)
    assert _error(rebuilt, test) == pytest.approx(_error(blind, test), rel=0.02)


def test_same_seed_gives_the_same_reconstruction(make_pairs: MakePairs) -> None:
    train, val = (make_pairs(lambda planes: np.abs(planes - 0.5), n, 16, n) for n in (60, 20))
    first, second = (fit_ridge(train, val, seed=4).reconstruct(val.features) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_more_pairs_are_no_worse(make_pairs: MakePairs) -> None:
    def halves(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.maximum(planes[:, :, ::2, ::2] - 0.4, 0).astype(np.float32)

    val, test = (make_pairs(halves, n, 16, n) for n in (60, 61))
    errors = [
        _error(fit_ridge(make_pairs(halves, n, 16, 1), val).reconstruct(test.features), test)
        for n in (20, 100, 500)
    ]
    assert errors[1] <= errors[0] * 1.02
    assert errors[2] <= errors[1] * 1.02


def test_an_exhausted_budget_is_told(make_pairs: MakePairs) -> None:
    train, val = (make_pairs(lambda planes: planes, n, 16, n) for n in (60, 20))
    hurried = fit_ridge(train, val, budget_s=1e-6)
    assert hurried.document()["stopped"] == "budget"
    assert fit_ridge(train, val).document()["stopped"] == "converged"


def test_bad_input_is_refused(make_pairs: MakePairs) -> None:
    pairs, larger = (make_pairs(lambda planes: planes, 8, size) for size in (16, 32))
    with pytest.raises(InputError, match="budget 0"):
        fit_ridge(pairs, pairs, budget_s=0)
    with pytest.raises(InputError, match="differ"):
        fit_ridge(pairs, larger)
    infinite = Pairs(pairs.features + np.float32(np.inf), pairs.images, pairs.labels)
    with pytest.raises(PrivynetError, match="not finite"):
        fit_ridge(infinite, pairs)
