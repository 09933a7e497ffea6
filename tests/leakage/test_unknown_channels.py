"""Finding the kept channels of a public backbone, and inverting the encoder so found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch import Tensor

from privynet.data import open_data
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.leakage import View, mean_image, score_images
from privynet.leakage.attacks.unknown_channels import UNKNOWN_CHANNELS, find_channels
from privynet.leakage.auxiliary import dead_leaves

SIZE = 32


@pytest.fixture(scope="module")
def backbone() -> Encoder:
    """All channels of an early cut of the bundled backbone."""
    splitter = Splitter(load_backbone(parse_backbone("bundled:plain8")), SIZE)
    return make_encoder(splitter, cut="blocks.1.2")


def private_images(n: int, seed: int) -> NDArray[np.uint8]:
    """Another domain than dead leaves: pieces of the two photographs that ship with scikit-learn."""
    rng = np.random.default_rng(seed)
    photographs = [image[::3, ::3] for image in load_sample_images().images]
    pieces = []
    for index in range(n):
        photograph = photographs[index % 2]
        top, left = (rng.integers(side - SIZE) for side in photograph.shape[:2])
        pieces.append(photograph[top : top + SIZE, left : left + SIZE])
    return np.stack(pieces)


@pytest.fixture(scope="module")
def candidates(backbone: Encoder) -> NDArray[np.float32]:
    return backbone.encode(dead_leaves(150, SIZE, seed=3))


@pytest.mark.parametrize("change", [None, "noise", "two bits"])
def test_planted_channels_are_found_in_their_order(
    backbone: Encoder, candidates: NDArray[np.float32], change: str | None
) -> None:
    rng = np.random.default_rng(1)
    kept = rng.permutation(32)[:16]
    sent = backbone.encode(private_images(60, 1))[:, kept]
    noise_std = 0.0
    if change == "noise":
        noise_std = 0.3 * float(sent.std())
        sent = sent + rng.normal(0, noise_std, sent.shape).astype(np.float32)
    if change == "two bits":
        step = 2 * float(sent.std())
        sent = (np.clip(np.rint(sent / step), 0, 3) * step).astype(np.float32)
    found = find_channels(sent, candidates, noise_std=noise_std)
    share = (found == kept).mean()
    assert share == 1 if change is None else share >= 0.9


@pytest.mark.shared_data
@pytest.mark.parametrize("cut", ["blocks.2.2", "blocks.3.2"])
def test_planted_channels_of_real_images_are_found_with_dead_leaves(shared: Path, cut: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIVYNET_DATA", str(shared / "data"))
        private = open_data("cifar10").split("attack-val", limit=100).images(SIZE)
    encoder = make_encoder(Splitter(load_backbone(parse_backbone("bundled:plain8")), SIZE), cut=cut)
    kept = np.random.default_rng(1).permutation(encoder.feature_shape[0])[:32]
    found = find_channels(encoder.encode(private)[:, kept], encoder.encode(dead_leaves(200, SIZE, seed=3)))
    np.testing.assert_array_equal(found, kept)


def test_found_channels_are_different_ones_and_do_not_depend_on_the_order_sent(
    backbone: Encoder, candidates: NDArray[np.float32]
) -> None:
    sent = backbone.encode(private_images(30, 2))[:, ::3]
    found = find_channels(sent, candidates)
    assert len(set(found.tolist())) == sent.shape[1]
    np.testing.assert_array_equal(find_channels(sent[:, ::-1], candidates), found[::-1])


@pytest.mark.parametrize("shape", [(5, 1, 1), (5, 2, 1), (5, 3, 7)])
def test_small_feature_maps_and_constant_channels_are_matched_to_something(
    shape: tuple[int, int, int],
) -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(40, *shape)) * np.arange(5)[:, None, None] ** 2).astype(np.float32)
    found = find_channels(features[:20, [4, 0, 3]], features[20:])
    assert found.tolist() == [4, 0, 3]
    assert len(set(find_channels(np.zeros_like(features[:3]), features).tolist())) == 5


def test_attack_rebuilds_images_through_channels_it_was_not_told(backbone: Encoder) -> None:
    kept = np.random.default_rng(4).permutation(32)[:16]

    def whole(images: Tensor) -> Tensor:
        features: Tensor = backbone.graph_module((255 * images).permute(0, 2, 3, 1))
        return features

    images, test_images = private_images(60, 5), private_images(8, 6)
    sent, test_sent = (backbone.encode(each)[:, kept] for each in (images, test_images))
    view = View(
        sent,
        mean_image(images),
        backbone=whole,
        auxiliary=dead_leaves(120, SIZE, seed=7),
    )
    fitted = UNKNOWN_CHANNELS.fit(view, budget_s=4, accelerator="cpu")
    assert fitted.document()["channels"] == kept.tolist()
    assert np.isfinite(fitted.document()["match_cost"])
    scores = score_images(fitted.reconstruct(test_sent), test_images, mean_image=view.mean_image)
    blind = np.broadcast_to(view.mean_image, test_images.shape)
    floor = score_images(blind, test_images, mean_image=view.mean_image)
    assert scores.psnr_db.mean() > floor.psnr_db.mean() + 6


@pytest.mark.parametrize("constant", [0.0, 3.7])
def test_features_that_say_nothing_give_the_mean_image(constant: float) -> None:
    encode: Callable[[Tensor], Tensor] = lambda images: torch.full((len(images), 4, 8, 8), constant)  # noqa: E731
    images = private_images(40, 8)
    view = View(
        np.full((40, 4, 8, 8), constant, np.float32),
        mean_image(images),
        backbone=encode,
        auxiliary=dead_leaves(60, SIZE, seed=7),
    )
    fitted = UNKNOWN_CHANNELS.fit(view, budget_s=5, accelerator="cpu")
    rebuilt = fitted.reconstruct(view.observed[:3])
    np.testing.assert_allclose(rebuilt, np.broadcast_to(view.mean_image, rebuilt.shape), atol=1e-3)
