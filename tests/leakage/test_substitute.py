"""The substitute attack: without weights or pairs it rebuilds what a shallow encoder sends, and does no harm.

The floor of 22 dB, on an encoder that mixes colours: where the colours of the known mean image vary in three
directions, it and the observed mean map determine such an encoder, whatever the domain of the foreign images.
What remains is what the optimiser leaves when its time is up; 24 to 45 dB were seen over seeds and domains.
"""

import json

import numpy as np
import pytest
import torch
from torch import nn

from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import InputError, PrivynetError
from privynet.leakage import View, mean_image, score_images
from privynet.leakage.attacks.substitute import SUBSTITUTE
from privynet.leakage.auxiliary import dead_leaves
from privynet.leakage.feature_modules import FeatureModule, untrained

FLOOR_DB = 20.0


class Colours(nn.Module):
    """A random mixture of the colours."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.mix = nn.Conv2d(3, 3, 1)
        for weight in self.mix.parameters():
            weight.data = torch.randn(weight.shape, generator=generator)

    def forward(self, images):
        return self.mix(images)


def private_images(n, seed, size=32, colourful=True):
    """Another domain than dead leaves: blobs before a sky, a wall and grass, or before grey."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    images = np.full((n, size, size, 3), 0.45)
    for image in images:
        if colourful:
            image += np.array([-0.1, 0.0, 0.25]) * (y < rng.uniform(0.3, 0.5))[..., None]
            image += np.array([-0.1, 0.15, -0.2]) * (y > rng.uniform(0.6, 0.8))[..., None]
            image += np.array([0.25, -0.05, -0.1]) * (x < rng.uniform(0.2, 0.5))[..., None]
        for _ in range(4):
            across, down, width = rng.normal(0.5, 0.2), rng.normal(0.6, 0.2), rng.uniform(0.05, 0.2)
            blob = np.exp(-((x - across) ** 2 + (y - down) ** 2) / (2 * width**2))
            image += blob[..., None] * rng.normal(0, 1, 3) * [0.35, 0.25, 0.15]
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def planes(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def attack(encoder, family, *, n=300, size=32, noise=0.0, colourful=True, **options):
    """The fitted attack, its scores on fresh images, and those of the blind guess.

    The mean image that the attacker knows is that of yet other images than he observes.
    """
    observed, test = (private_images(count, count, size, colourful) for count in (n, 60))
    rng = np.random.default_rng(0)

    def encode(images):
        with torch.no_grad():
            features = encoder(planes(images)).numpy()
        return features + noise * rng.standard_normal(features.shape, np.float32)

    mean = mean_image(private_images(n, 1, size, colourful))
    view = View(encode(observed), mean, noise, family=family, auxiliary=dead_leaves(300, size, seed=5))
    fitted = SUBSTITUTE.fit(view, **{"budget_s": 12} | options)
    scores = score_images(fitted.reconstruct(encode(test)), test, mean_image=mean)
    blind = score_images(np.broadcast_to(mean, test.shape), test, mean_image=mean)
    return fitted, scores.psnr_db.mean(), blind.psnr_db.mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_mixed_colours_are_unmixed(seed):
    """From the images themselves, the family being a random mixture."""
    fitted, found, blind = attack(nn.Identity(), Colours, seed=seed, budget_s=20)
    assert found >= FLOOR_DB > blind
    assert fitted.confidence > 0.8
    document = json.loads(json.dumps(fitted.document()))
    assert document["pairs"] == 0
    assert sum(restart["weight"] for restart in document["restarts"]) == pytest.approx(1)
    assert {"mean_map", "covariances", "values", "curvature"} < set(document["restarts"][0])


def test_noise_is_not_taken_for_signal():
    _, found, blind = attack(nn.Identity(), Colours, noise=0.1, budget_s=5)
    assert found >= blind - 0.1


def test_where_the_mean_image_says_nothing_of_colours_they_are_not_made_up():
    _, found, blind = attack(nn.Identity(), Colours, colourful=False, budget_s=20)
    assert found >= blind - 0.3


@pytest.fixture(scope="module")
def first_cut():
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    return make_encoder(splitter, cut="blocks.0.2").graph_module


def test_first_cut_of_the_bundled_backbone_is_inverted_better_than_blindly(first_cut):
    _, found, blind = attack(
        FeatureModule(first_cut, 32, 32), lambda seed: untrained(first_cut, 32, 32, seed=seed), budget_s=10
    )
    assert found > blind


def test_time_too_short_to_learn_anything_does_no_harm(first_cut):
    fitted, found, blind = attack(
        FeatureModule(first_cut, 32, 32), lambda seed: untrained(first_cut, 32, 32, seed=seed), budget_s=0.5
    )
    assert fitted.document()["stopped"] == "budget"
    assert found >= blind - 0.1


class Wrong(nn.Module):
    """A family that the encoder is not of."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.Tanh(), nn.Conv2d(8, 3, 3, 1), nn.Tanh())
        for weight in self.layers.parameters():
            weight.data = torch.randn(weight.shape, generator=generator)

    def forward(self, images):
        return self.layers(images)


def test_encoder_of_another_family_does_no_harm():
    """Folded rows of pixels that no member of the family computes."""
    scrambled = torch.randperm(16 * 16 * 3, generator=torch.Generator().manual_seed(3))[: 3 * 4]

    def encoder(images):
        chosen = images.flatten(1)[:, scrambled].reshape(-1, 3, 2, 2)
        return torch.cos(20 * chosen)

    _, found, blind = attack(encoder, Wrong, size=16, budget_s=3)
    assert found >= blind - 0.3


def test_features_without_information_give_the_mean_image():
    fitted, found, blind = attack(lambda images: 0 * images + 2.5, Colours, budget_s=5)
    assert found == pytest.approx(blind, abs=1e-6)
    assert fitted.document()["stopped"] == "converged"
    fitted, found, blind = attack(lambda images: 0 * images, Colours, noise=0.5, budget_s=5)
    assert found == pytest.approx(blind, abs=0.1)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="budget 0 s"):
        attack(nn.Identity(), Colours, n=20, size=16, budget_s=0)
    with pytest.raises(PrivynetError, match="not finite"):
        attack(lambda images: images / 0, Colours, n=20, size=16)
