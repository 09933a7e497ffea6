"""Fisher-information bounds where the best attack is known in closed form, and against strong attacks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn
from torch.nn import functional

from privynet.errors import InputError
from privynet.leakage.fisher import Bounds, average_information
from privynet.leakage.gaussian_prior import GaussianPrior, gaussian_prior

SIZE = 4
VALUES = 3 * SIZE**2
Array = NDArray[np.float64]


def information_bounds(
    feature_map: Any, images: Any, *, noise_std: float, prior_covariance: NDArray[Any]
) -> Bounds:
    return average_information(feature_map, images).bounds(noise_std, prior_covariance)


def smooth_prior(size: int = SIZE) -> GaussianPrior:
    """Neighbouring values nearly equal: an ill-conditioned covariance, as that of images is."""
    at = np.arange(size)
    near = np.exp(-np.square(at[:, None] - at) / 8)
    colours = np.full((3, 3), 0.9) + 0.1 * np.eye(3)
    covariance = 0.04 * np.kron(colours, np.kron(near, near))
    return GaussianPrior(np.full(3 * size**2, 0.5), covariance + 1e-6 * np.eye(3 * size**2))


def linear_map(outputs: int, seed: int = 0) -> tuple[Array, Callable[[Tensor], Tensor]]:
    matrix = np.random.default_rng(seed).standard_normal((outputs, VALUES)) / np.sqrt(VALUES)
    weight = torch.from_numpy(matrix).float()
    return weight.double().numpy(), lambda images: functional.linear(images.flatten(1), weight) + 1


def convolutions(channels: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, channels, 3, stride=2, padding=1), nn.ReLU()
    ).requires_grad_(False)


@pytest.mark.parametrize("outputs", [20, VALUES, 5 * VALUES])
@pytest.mark.parametrize("noise_std", [1e-3, 0.1, 10.0])
def test_for_a_linear_encoder_of_gaussian_images_van_trees_is_the_best_possible_error(
    outputs: int, noise_std: float
) -> None:
    """The posterior mean reaches it; its error is the trace of the posterior covariance (Kalman's form)."""
    prior = smooth_prior()
    matrix, encode = linear_map(outputs)
    seen = prior.covariance @ matrix.T
    gain = np.linalg.solve(matrix @ seen + noise_std**2 * np.eye(outputs), seen.T).T
    posterior = prior.covariance - gain @ seen.T
    found = information_bounds(
        encode,
        prior.sample(3, np.random.default_rng(0)),
        noise_std=noise_std,
        prior_covariance=prior.covariance,
    )
    assert found.van_trees_mse == pytest.approx(np.trace(posterior) / VALUES, rel=1e-3)
    assert found.van_trees_trace_mse <= found.van_trees_mse * (1 + 1e-6)
    assert (found.noise_std, found.n) == (noise_std, 3)


def test_least_squares_is_unbiased_and_stays_above_the_unbiased_bound_but_a_prior_gets_below() -> None:
    noise_std, rng = 0.5, np.random.default_rng(0)
    prior = smooth_prior()
    matrix, encode = linear_map(3 * VALUES)
    images = prior.sample(2000, rng)
    truth = images.reshape(len(images), -1)
    features = truth @ matrix.T + 1 + noise_std * rng.standard_normal((len(truth), len(matrix)))
    found = information_bounds(encode, images[:2], noise_std=noise_std, prior_covariance=prior.covariance)
    least_squares = (features - 1) @ np.linalg.pinv(matrix).T
    error = np.square(least_squares - truth).mean()
    exact = noise_std**2 * np.trace(np.linalg.inv(matrix.T @ matrix)) / VALUES
    assert error == pytest.approx(exact, rel=0.02)
    assert found.unbiased_mse == pytest.approx(noise_std**2 * VALUES / np.square(matrix).sum(), rel=1e-4)
    assert found.unbiased_mse <= error
    seen = prior.covariance @ matrix.T
    gain = np.linalg.solve(matrix @ seen + noise_std**2 * np.eye(len(matrix)), seen.T).T
    with_prior = np.square((features - 1 - truth.mean(0) @ matrix.T) @ gain.T + truth.mean(0) - truth).mean()
    assert found.van_trees_mse * 0.97 < with_prior < found.unbiased_mse


@pytest.mark.parametrize("noise_std", [0.02, 0.2])
def test_no_attack_on_images_of_the_prior_beats_van_trees(noise_std: float) -> None:
    """Ridge, a trained network, and the most probable image, found with full knowledge of the encoder."""
    rng = np.random.default_rng(0)
    prior = smooth_prior()
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(VALUES, 40), nn.Tanh()).requires_grad_(False)
    encoder[1].weight.mul_(4)
    encoder[1].bias.copy_(-encoder[1].weight.sum(1) / 2)
    images = torch.from_numpy(prior.sample(6000, rng))
    features = encoder(images) + noise_std * torch.from_numpy(rng.standard_normal((6000, 40))).float()
    truth, held_out = images.flatten(1), slice(5500, None)
    train, target = features[:5500], truth[:5500]
    errors = {}

    def judge(name: str, guesses: Tensor) -> None:
        errors[name] = (guesses - truth[held_out]).square().mean(1).double().numpy()

    wide = torch.cat((train, torch.ones(len(train), 1)), 1).double()
    ridge = torch.linalg.solve(wide.T @ wide + 1e-3 * torch.eye(41), wide.T @ target.double())
    judge("ridge", torch.cat((features, torch.ones(6000, 1)), 1)[held_out] @ ridge.float())

    network = nn.Sequential(nn.Linear(40, 128), nn.GELU(), nn.Linear(128, VALUES))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 600)
    for _ in range(600):
        rows = torch.randint(5500, (256,))
        optimiser.zero_grad()
        functional.mse_loss(network(train[rows]), target[rows] - 0.5).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        judge("network", network(features[held_out]) + 0.5)

    root = torch.linalg.cholesky(torch.from_numpy(prior.covariance)).float()
    whitened = torch.zeros(500, VALUES, requires_grad=True)
    search = torch.optim.LBFGS([whitened], max_iter=150, line_search_fn="strong_wolfe")

    def minus_log_posterior() -> Tensor:
        search.zero_grad()
        apart = encoder(whitened @ root.T + 0.5) - features[held_out]
        value = apart.square().sum() / (2 * noise_std**2) + whitened.square().sum() / 2
        value.backward()
        return value

    search.step(minus_log_posterior)
    judge("most probable", whitened.detach() @ root.T + 0.5)

    found = information_bounds(encoder, images[:500], noise_std=noise_std, prior_covariance=prior.covariance)
    blind = float(np.trace(prior.covariance)) / VALUES
    for error in errors.values():
        slack = 4 * error.std() / np.sqrt(len(error))
        assert found.van_trees_mse < error.mean() + slack < 0.9 * blind
    assert (
        min(error.mean() for error in errors.values()) < 3 * found.van_trees_mse
    )  # the bound says something


@pytest.mark.parametrize("channels", [5, 64])
def test_average_information_is_that_of_torchs_full_jacobians(channels: int) -> None:
    """Few features go by rows, many by columns."""
    encoder = convolutions(channels)
    images = np.random.default_rng(0).random((19, 3, 6, 6)).astype(np.float32)
    found = average_information(encoder, images)
    expected = np.zeros((108, 108))
    for image in torch.from_numpy(images):
        jacobian = torch.autograd.functional.jacobian(encoder, image[None]).reshape(-1, 108).double().numpy()
        expected += jacobian.T @ jacobian / 19
    assert found.n == 19
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-4, atol=1e-6 * expected.max())
    assert np.linalg.eigvalsh(found.matrix).min() > -1e-12 * np.trace(expected)


class Doubled(torch.autograd.Function):
    """An operator without a forward derivative."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return 2 * values

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_many_features_without_forward_derivatives_go_by_rows() -> None:
    _, encode = linear_map(5 * VALUES)
    images = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    doubled = average_information(lambda inputs: Doubled.apply(encode(inputs)), images)
    np.testing.assert_allclose(doubled.matrix, 4 * average_information(encode, images).matrix, rtol=1e-5)


def test_bytes_and_floats_are_the_same_images() -> None:
    encoder = convolutions(4)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    planes = (images.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    of_bytes, of_floats, of_tensor = (
        average_information(encoder, given).matrix for given in (images, planes, torch.from_numpy(planes))
    )
    np.testing.assert_allclose(of_bytes, of_floats, atol=1e-6 * of_bytes.max())
    np.testing.assert_allclose(of_bytes, of_tensor, atol=1e-6 * of_bytes.max())
    np.testing.assert_allclose(gaussian_prior(images).covariance, gaussian_prior(planes).covariance)


def test_more_noise_and_wider_priors_raise_the_bounds_and_few_images_are_optimistic() -> None:
    encoder, prior = convolutions(8), smooth_prior(8)
    images = prior.sample(64, np.random.default_rng(0))
    information = average_information(encoder, images)
    by_noise = [information.bounds(noise_std, prior.covariance) for noise_std in (0.01, 0.1, 1, 10)]
    for less, more in pairwise(by_noise):
        assert less.van_trees_mse < more.van_trees_mse
        assert more.unbiased_mse == pytest.approx(100 * less.unbiased_mse)
        assert less.dfil == pytest.approx(1 / less.unbiased_mse)
        assert less.van_trees_psnr_db > more.van_trees_psnr_db
    blind = np.trace(prior.covariance) / len(prior.covariance)
    assert by_noise[-1].van_trees_mse <= blind
    assert information.bounds(1e6, prior.covariance).van_trees_mse == pytest.approx(blind, rel=1e-6)
    assert information.bounds(0.1, 2 * prior.covariance).van_trees_mse > by_noise[1].van_trees_mse
    few = [
        average_information(encoder, images[at : at + 2]).bounds(0.01, prior.covariance).van_trees_mse
        for at in range(0, 64, 2)
    ]
    assert np.mean(few) > by_noise[0].van_trees_mse


def test_an_encoder_that_tells_nothing_leaves_the_blind_guess() -> None:
    prior = smooth_prior()
    images = prior.sample(2, np.random.default_rng(0))
    found = information_bounds(
        lambda inputs: torch.zeros(len(inputs), 2) * inputs.sum(),
        images,
        noise_std=1.0,
        prior_covariance=prior.covariance,
    )
    assert found.van_trees_mse == pytest.approx(np.trace(prior.covariance) / VALUES)
    assert found.unbiased_mse == np.inf
    document = found.document(prior="made up")
    assert document["unbiased_mse"] is None and document["unbiased_psnr_db"] is None
    assert document["dfil"] == 0 and document["prior"] == "made up" and document["n"] == 2


@pytest.mark.parametrize("n", [20, 400])
def test_the_prior_is_ledoit_and_wolfs_and_samples_follow_it(n: int) -> None:
    rng = np.random.default_rng(0)
    images = smooth_prior().sample(n, rng)
    prior = gaussian_prior(images)
    flat = images.reshape(n, -1).astype(np.float64)
    expected, _ = ledoit_wolf(flat)
    np.testing.assert_allclose(prior.mean, flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(prior.covariance, expected, rtol=1e-6, atol=1e-9)
    drawn = prior.sample(20_000, rng)
    assert drawn.shape == (20_000, 3, SIZE, SIZE) and drawn.dtype == np.float32
    scatter = np.cov(drawn.reshape(len(drawn), -1).T)
    np.testing.assert_allclose(drawn.reshape(len(drawn), -1).mean(0), prior.mean, atol=0.01)
    np.testing.assert_allclose(scatter, prior.covariance, atol=0.05 * prior.covariance.max())


@pytest.mark.parametrize("noise_std", [0.0, -1.0, np.nan, np.inf])
def test_without_noise_no_guarantee_is_given(noise_std: float) -> None:
    _, encode = linear_map(5)
    with pytest.raises(InputError, match="no guarantee exists"):
        information_bounds(
            encode, np.zeros((1, 3, SIZE, SIZE)), noise_std=noise_std, prior_covariance=np.eye(VALUES)
        )


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.eye(VALUES - 1), "shape"),
        (np.zeros((VALUES, VALUES)), "positive definite"),
        (np.triu(np.ones((VALUES, VALUES))), "symmetric"),
        (np.full((VALUES, VALUES), np.nan), "symmetric"),
        (np.diag([1.0] * (VALUES - 1) + [-1.0]), "positive definite"),
    ],
)
def test_a_prior_that_is_no_covariance_is_refused(covariance: Array, message: str) -> None:
    _, encode = linear_map(5)
    images = np.zeros((1, 3, SIZE, SIZE))
    with pytest.raises(InputError, match=message):
        information_bounds(encode, images, noise_std=1.0, prior_covariance=covariance)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 3, 4, 4)),
        np.zeros((2, 4, 4, 3)),
        np.zeros((2, 3, 4, 4), np.uint8),
        np.zeros((2, 3, 4, 5)),
        np.zeros((3, 4, 4)),
        np.zeros((2, 3, 4, 4), np.int64),
        np.full((2, 3, 4, 4), np.nan),
    ],
)
def test_what_are_no_images_is_refused(images: NDArray[np.generic]) -> None:
    _, encode = linear_map(5)
    with pytest.raises(InputError, match="images"):
        average_information(encode, images)
    with pytest.raises(InputError, match="images"):
        gaussian_prior(images)


def test_equal_images_have_no_prior() -> None:
    for images in (np.ones((1, 3, 4, 4)), np.ones((5, 3, 4, 4))):
        with pytest.raises(InputError, match="without variance"):
            gaussian_prior(images)
