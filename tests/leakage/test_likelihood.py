"""The white-box attackers: what they rebuild, and that they are no worse than what they start from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.leakage import Attack, Pairs, View, attack_features, mean_image
from privynet.leakage.attacks.likelihood import LIKELIHOOD
from privynet.leakage.attacks.likelihood_prior import LIKELIHOOD_PRIOR
from privynet.leakage.attacks.optimising import Optimiser, Recipe
from privynet.leakage.attacks.transmission import Transmission
from privynet.leakage.auxiliary import dead_leaves
from privynet.leakage.decoders import train_decoder

MakePairs = Callable[..., Pairs]
SIZE = 16


def mixed(images: Tensor) -> Tensor:
    """Invertible and not linear: pixels of 2x2 blocks mixed by a fixed rotation, cubed with a slope."""
    generator = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=generator))[0]
    blocks = torch.einsum("ij,njhw->nihw", rotation, functional.pixel_unshuffle(images - 0.5, 2))
    return blocks + 2 * blocks**3


def pairs_of(make_pairs: MakePairs, encode: Callable[[Tensor], Tensor], n: int, seed: int) -> Pairs:
    return make_pairs(lambda planes: encode(torch.from_numpy(planes)).numpy(), n, SIZE, seed)


def psnr(attack: Attack, view: View, test: Pairs, budget_s: float = 10) -> Any:
    held = View(**{**vars(view), "pairs": view.pairs or (test, test)})
    return attack_features(held, test, attacks=[attack], budget_s=budget_s, accelerator="cpu")


def test_likelihood_inverts_an_invertible_encoder_that_is_not_linear(make_pairs: MakePairs) -> None:
    test = pairs_of(make_pairs, mixed, 8, 1)
    view = View(test.features, mean_image(test.images), weights=mixed)
    result = psnr(LIKELIHOOD, view, test)
    assert result.scores.psnr_db.value >= 30
    fit = result.attacks[0].fit
    assert fit["pairs"] == 0
    assert fit["steps"] > 0


def test_likelihood_sees_through_the_bundled_backbones_early_cut(make_pairs: MakePairs) -> None:
    backbone = load_backbone(parse_backbone("bundled:plain8"))
    encoder = make_encoder(Splitter(backbone, SIZE), cut="blocks.2.2", channels=range(0, 64, 2))

    def weights(images: Tensor) -> Tensor:
        features: Tensor = encoder.graph_module((255 * images).permute(0, 2, 3, 1))
        return features

    images = dead_leaves(12, SIZE, seed=5)
    test = Pairs(encoder.encode(images), images, np.zeros(12, np.int64))
    result = psnr(LIKELIHOOD, View(test.features, mean_image(images), weights=weights), test)
    assert result.scores.psnr_db.value > result.blind.psnr_db.value + 6


@pytest.mark.parametrize("noise_std", [0.0, 0.2])
def test_likelihood_prior_is_not_worse_than_its_decoder(make_pairs: MakePairs, noise_std: float) -> None:
    def noisy(n: int, seed: int) -> Pairs:
        clean = pairs_of(make_pairs, mixed, n, seed)
        noise = np.random.default_rng(seed).normal(0, noise_std, clean.features.shape)
        return Pairs((clean.features + noise).astype(np.float32), clean.images, clean.labels)

    train, val, test = noisy(100, 1), noisy(30, 2), noisy(40, 3)
    view = View(
        train.features, mean_image(train.images), noise_std=noise_std, pairs=(train, val), weights=mixed
    )
    fitted = LIKELIHOOD_PRIOR.fit(view, budget_s=4, accelerator="cpu")

    def error(images: NDArray[np.float32]) -> NDArray[np.float32]:
        squared = np.square(images - test.images / np.float32(255))
        return np.asarray(squared.mean(axis=(1, 2, 3)), np.float32)

    gain = error(fitted.decoder.reconstruct(test.features)) - error(fitted.reconstruct(test.features))
    assert gain.mean() > -2 * gain.std() / np.sqrt(len(gain))
    assert fitted.document()["pairs"] == 100
    if noise_std == 0:
        assert gain.mean() > 0


def test_images_that_say_nothing_stay_at_the_mean_image_and_known_ones_at_the_estimate() -> None:
    mean = np.random.default_rng(0).uniform(0.2, 0.8, (SIZE, SIZE, 3)).astype(np.float32)
    optimiser = Optimiser(
        lambda images: 0 * images[:, :, :4, :4] + 1, mean, np.ones(3, np.float32), accelerator="cpu"
    )
    features = np.full((3, 3, 4, 4), 7, np.float32)
    images, late, _ = optimiser.rebuild(features, Recipe(20, tv=1.0))
    np.testing.assert_allclose(images, np.broadcast_to(mean, images.shape), atol=1e-6)
    assert not late
    estimates = np.full((3, SIZE, SIZE, 3), 0.25, np.float32)
    images, _, _ = optimiser.rebuild(features, Recipe(20, from_estimate=True), estimates=estimates)
    np.testing.assert_allclose(images, estimates, atol=1e-6)


def test_a_budget_that_is_too_short_is_told(make_pairs: MakePairs) -> None:
    test = pairs_of(make_pairs, mixed, 400, 1)
    fitted = LIKELIHOOD.fit(
        View(test.features, mean_image(test.images), weights=mixed), budget_s=0.5, accelerator="cpu"
    )
    images = fitted.reconstruct(test.features)
    assert fitted.document()["stopped"] == "budget"
    assert np.isfinite(images).all()


def test_quantised_features_are_imitated_level_by_level() -> None:
    rng = np.random.default_rng(0)
    clean = rng.normal(0.3, 1, (20, 4, 5, 5)).astype(np.float32)
    sent = (np.clip(np.rint(clean / 0.25) + 3, 0, 15) - 3).astype(np.float32) * np.float32(0.25)
    transmission = Transmission.seen_in(sent)
    np.testing.assert_allclose(transmission.apply(clean, rng), sent, atol=1e-6)
    assert Transmission.seen_in(clean).exact
    assert Transmission.seen_in(clean[:1, :1, :2, :2]).exact


def test_a_start_is_learned_from_own_images_alone(make_pairs: MakePairs) -> None:
    """The closed-form start is what ``train_decoder`` gives without a step, whatever the clock."""
    train, val = pairs_of(make_pairs, mixed, 50, 1), pairs_of(make_pairs, mixed, 20, 2)
    first, second = (train_decoder(train, val, budget_s=1e-6, accelerator="cpu") for _ in range(2))
    assert first.epochs == 0
    np.testing.assert_array_equal(first.reconstruct(val.features), second.reconstruct(val.features))
