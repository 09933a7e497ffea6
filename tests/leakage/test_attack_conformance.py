"""What every inversion attack must do; an attack added to ``ATTACKS`` runs through all of it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from privynet.errors import InputError
from privynet.leakage import ATTACKS, Attack, Pairs, attack_features

MakePairs = Callable[..., Pairs]
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


def _half(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """A lossy, non-linear encoder: 8x8 means, rectified."""
    n, channels, size, _ = planes.shape
    means = planes.reshape(n, channels, 8, size // 8, 8, size // 8).mean(axis=(3, 5))
    rectified: NDArray[np.float32] = np.maximum(means - 0.5, 0).astype(np.float32)
    return rectified


@every_attack
def test_identity_encoder_is_inverted(attack: Attack, make_pairs: MakePairs) -> None:
    train, val, test = (make_pairs(lambda planes: planes, n, 32, n) for n in (200, 40, 41))
    leakage = attack_features(train, val, test, attacks=[attack], budget_s=10)
    assert leakage.scores.psnr_db.value >= 30
    difference = leakage.reconstructions.astype(int) - test.images
    assert np.abs(difference).mean() < 255 * 10 ** (-30 / 20)


@every_attack
def test_constant_encoder_gives_the_blind_guess(attack: Attack, make_pairs: MakePairs) -> None:
    train, val, test = (
        make_pairs(lambda planes: np.full((len(planes), 4, 8, 8), 3.7, np.float32), n, 16, n)
        for n in (300, 200, 201)
    )
    leakage = attack_features(train, val, test, attacks=[attack], budget_s=2)
    assert leakage.scores.psnr_db.value == pytest.approx(leakage.blind.psnr_db.value, abs=0.1)
    assert leakage.scores.r2.value < leakage.label_only.r2.value


@every_attack
def test_lossy_encoder_lies_between_blind_guess_and_identity(attack: Attack, make_pairs: MakePairs) -> None:
    train, val, test = (make_pairs(_half, n, 16, n) for n in (200, 50, 51))
    scores = attack_features(train, val, test, attacks=[attack], budget_s=3).scores
    assert 0.2 < scores.r2.value < 0.999


@every_attack
def test_same_seed_gives_the_same_result_and_leaves_the_global_generators(
    attack: Attack, make_pairs: MakePairs
) -> None:
    train, val, test = (make_pairs(_half, n, 16, n) for n in (8, 20, 9))
    torch_state = torch.get_rng_state()
    np.random.seed(5)
    drawn = np.random.random(3)
    np.random.seed(5)
    first, second = (attack.fit(train, val, seed=3, budget_s=300) for _ in range(2))
    assert first.document()["stopped"] == second.document()["stopped"] == "converged"
    np.testing.assert_array_equal(first.reconstruct(test.features), second.reconstruct(test.features))
    assert torch.equal(torch_state, torch.get_rng_state())
    np.testing.assert_array_equal(drawn, np.random.random(3))


@every_attack
def test_reconstructions_are_images_one_by_one(attack: Attack, make_pairs: MakePairs) -> None:
    train, val, test = (make_pairs(_half, n, 16, n) for n in (20, 20, 9))
    fitted = attack.fit(train, val, budget_s=0.5)
    images = fitted.reconstruct(test.features)
    assert images.shape == (9, 16, 16, 3)
    assert images.dtype == np.float32
    assert 0 <= images.min() <= images.max() <= 1
    alone = np.concatenate([fitted.reconstruct(test.features[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(alone, images, atol=0.02)


@every_attack
def test_document_says_how_the_attack_was_fitted(attack: Attack, make_pairs: MakePairs) -> None:
    train, val, test = (make_pairs(_half, n, 16, n) for n in (20, 20, 9))
    document = attack_features(train, val, test, attacks=[attack], budget_s=0.5).document()
    assert document["strongest"]["r2"]["attack"] == attack.name
    assert set(document["strongest"]["psnr_db"]) == {"value", "ci95", "n", "attack"}
    assert document["strongest"]["ssim"]["n"] == 9
    assert document["blind"]["r2"]["value"] == pytest.approx(0, abs=1e-9)
    (entry,) = document["attacks"]
    assert entry["knows"] == attack.knows
    assert {"seconds", "pairs", "stopped"} <= set(entry["fit"])
    assert entry["fit"]["pairs"] == 20


def test_no_attack_and_pairs_of_another_encoder_are_refused(make_pairs: MakePairs) -> None:
    pairs, other = make_pairs(_half, 8, 16), make_pairs(lambda planes: planes, 8, 16)
    with pytest.raises(InputError, match="no attack"):
        attack_features(pairs, pairs, pairs, attacks=[])
    with pytest.raises(InputError, match=r"\(3, 16, 16\)"):
        attack_features(pairs, pairs, other)
