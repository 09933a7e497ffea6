import numpy as np

from privynet.leakage import Pairs, class_mean_images, mean_image


def _pairs(n: int) -> Pairs:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(n, 16, 16, 3)).astype(np.uint8)
    return Pairs(np.zeros((n, 1, 1, 1), np.float32), images, np.arange(n) % 3)


def test_blind_guess_is_the_mean_image() -> None:
    images = _pairs(600).images
    np.testing.assert_allclose(mean_image(images), (images / 255).mean(axis=0), atol=1e-6)


def test_label_only_guess_is_the_class_mean_and_the_overall_mean_for_an_unseen_class() -> None:
    train = _pairs(30)
    guesses = class_mean_images(train, np.array([2, 0, 7]))
    np.testing.assert_allclose(guesses[0], (train.images[2::3] / 255).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(guesses[1], (train.images[0::3] / 255).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(guesses[2], (train.images / 255).mean(axis=0), atol=1e-6)
