"""What every reconstruction attack must do; an attack added to ``ATTACKS`` runs through all of it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from privynet.errors import InputError
from privynet.leakage import ATTACKS, Attack, Leakage, Pairs, View, attack_features, mean_image
from privynet.leakage.auxiliary import dead_leaves
from privynet.leakage.positive_control import required_psnr_db

MakePairs = Callable[..., Pairs]
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
learning_from_pairs = pytest.mark.parametrize(
    "attack", [attack for attack in ATTACKS if "pairs" in attack.knows], ids=lambda attack: attack.name
)

Encode = Callable[[Tensor], Tensor]


def identity(images: Tensor) -> Tensor:
    return images


def constant(images: Tensor) -> Tensor:
    return functional.pad(0 * images[:, :, :8, :8], (0, 0, 0, 0, 0, 1)) + 3.7


def lossy(images: Tensor) -> Tensor:
    """8x8 means, rectified."""
    return functional.relu(functional.adaptive_avg_pool2d(images, 8) - 0.3)


def lit(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Light of three colours from three sides, in the private images.

    Without it colours are exchangeable and places alike: no one could tell them apart by what is observed,
    and the floor of the attacks that have neither pairs nor weights could not be asked for.
    """
    y, x = (np.mgrid[: len(images[0]), : len(images[0])] + 0.5) / len(images[0])
    light = np.stack([1 - 0.6 * x, 0.4 + 0.6 * y, 1 - 0.6 * np.abs(2 * x - 1)], -1)
    return np.rint(images * light).astype(np.uint8)


class Family(nn.Module):
    """Encoders like the three: a trainable mixture of colours, pooled to the features' size."""

    def __init__(self, seed: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.side = shape[1]
        self.mix = nn.Conv2d(3, shape[0], 1)
        for weight in self.mix.parameters():
            weight.data = 0.5 * torch.randn(weight.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        mixed: Tensor = self.mix(functional.adaptive_avg_pool2d(images, self.side))
        return mixed


def view(encode: Encode, train: Pairs, val: Pairs) -> View:
    """All that any attacker may know of an encoder."""
    return View(
        train.features,
        mean_image(val.images),
        pairs=(train, val),
        weights=encode,
        backbone=encode,
        family=lambda seed: Family(seed, train.feature_shape),
        auxiliary=dead_leaves(200, train.image_size, seed=7),
        captures=(train, val),
    )


@pytest.fixture
def pairs(make_pairs: MakePairs) -> MakePairs:
    """``pairs(encode, n, size, seed)`` with an encoder in torch."""

    def make(encode: Encode, n: int, size: int, seed: int) -> Pairs:
        smooth = make_pairs(lambda planes: planes, n, size, seed)
        images = lit(smooth.images)
        planes = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
        return Pairs(encode(planes).numpy(), images, smooth.labels)

    return make


def attacked(
    attack: Attack, encode: Encode, train: Pairs, val: Pairs, test: Pairs, budget_s: float
) -> Leakage:
    return attack_features(
        view(encode, train, val), test, attacks=[attack], averaged=test.features, budget_s=budget_s
    )


@every_attack
def test_identity_encoder_is_inverted(attack: Attack, pairs: MakePairs) -> None:
    train, val, test = (pairs(identity, n, 32, n) for n in (200, 40, 41))
    leakage = attacked(attack, identity, train, val, test, 15)
    assert leakage.scores.psnr_db.value >= required_psnr_db(attack.name)


@every_attack
def test_constant_encoder_gives_the_blind_guess(attack: Attack, pairs: MakePairs) -> None:
    train, val, test = (pairs(constant, n, 16, n) for n in (300, 200, 201))
    leakage = attacked(attack, constant, train, val, test, 2)
    assert leakage.scores.psnr_db.value == pytest.approx(leakage.blind.psnr_db.value, abs=0.1)
    assert leakage.scores.r2.value < leakage.label_only.r2.value


@every_attack
def test_lossy_encoder_lies_between_blind_guess_and_identity(attack: Attack, pairs: MakePairs) -> None:
    train, val, test = (pairs(lossy, n, 16, n) for n in (200, 50, 51))
    scores = attacked(attack, lossy, train, val, test, 3).scores
    # Without pairs or weights it may be taken in: other encoders of its family send features like these.
    low = -np.inf if required_psnr_db(attack.name) < 30 else 0.2
    assert low < scores.r2.value < 0.999


@learning_from_pairs
def test_more_pairs_do_not_make_it_worse(attack: Attack, pairs: MakePairs) -> None:
    many, val, test = (pairs(lossy, n, 16, n) for n in (600, 50, 51))
    few = Pairs(many.features[:60], many.images[:60], many.labels[:60])
    small, large = (attacked(attack, lossy, train, val, test, 4).scores for train in (few, many))
    half_width = (large.psnr_db.ci95[1] - large.psnr_db.ci95[0]) / 2
    assert large.psnr_db.value > small.psnr_db.value - half_width


@every_attack
def test_same_seed_gives_the_same_result_and_leaves_the_global_generators(
    attack: Attack, pairs: MakePairs
) -> None:
    train, val, test = (pairs(lossy, n, 16, n) for n in (8, 20, 9))
    torch_state = torch.get_rng_state()
    np.random.seed(5)
    drawn = np.random.random(3)
    np.random.seed(5)
    held = view(lossy, train, val).only(attack.knows)
    first, second = (attack.fit(held, seed=3, budget_s=300) for _ in range(2))
    np.testing.assert_array_equal(first.reconstruct(test.features), second.reconstruct(test.features))
    assert first.document()["stopped"] == second.document()["stopped"] == "converged"
    assert torch.equal(torch_state, torch.get_rng_state())
    np.testing.assert_array_equal(drawn, np.random.random(3))


@every_attack
def test_reconstructions_are_images_one_by_one(attack: Attack, pairs: MakePairs) -> None:
    train, val, test = (pairs(lossy, n, 16, n) for n in (20, 20, 6))
    fitted = attack.fit(view(lossy, train, val).only(attack.knows), budget_s=1)
    images = fitted.reconstruct(test.features)
    assert images.shape == (6, 16, 16, 3)
    assert images.dtype == np.float32
    assert 0 <= images.min() <= images.max() <= 1
    alone = np.concatenate([fitted.reconstruct(test.features[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(alone, images, atol=0.02)


@every_attack
def test_document_says_how_the_attack_was_fitted(attack: Attack, pairs: MakePairs) -> None:
    train, val, test = (pairs(lossy, n, 16, n) for n in (20, 20, 9))
    document = attacked(attack, lossy, train, val, test, 0.5).document()
    assert document["strongest"]["r2"]["attack"] == attack.name
    assert set(document["strongest"]["psnr_db"]) == {"value", "ci95", "n", "worst_decile", "attack"}
    assert document["strongest"]["ssim"]["n"] == 9
    assert document["blind"]["r2"]["value"] == pytest.approx(0, abs=1e-9)
    (entry,) = document["attacks"]
    assert entry["knows"] == list(attack.knows)
    assert {"seconds", "pairs", "stopped"} <= set(entry["fit"])
    assert entry["fit"]["pairs"] == (20 if {"pairs", "captures"} & set(attack.knows) else 0)


@every_attack
def test_an_attack_holds_only_what_it_says_it_knows(attack: Attack, pairs: MakePairs) -> None:
    train, val = (pairs(lossy, n, 16, n) for n in (20, 20))
    held = view(lossy, train, val).only(attack.knows)
    assert held.known == set(attack.knows)
    attack.fit(held, budget_s=0.2)


def test_no_attack_missing_knowledge_and_pairs_of_another_encoder_are_refused(pairs: MakePairs) -> None:
    some, other = pairs(lossy, 8, 16, 0), pairs(identity, 8, 16, 0)
    with pytest.raises(InputError, match="no attack"):
        attack_features(View.of_pairs(some, some), some, attacks=[])
    with pytest.raises(InputError, match=r"\(3, 16, 16\)"):
        attack_features(View.of_pairs(some, some), other, attacks=ATTACKS)
    lacking = [attack for attack in ATTACKS if attack.knows != ("pairs",)][:1]
    for attack in lacking:
        with pytest.raises(InputError, match=attack.name):
            attack_features(View.of_pairs(some, some), some, attacks=[attack])
