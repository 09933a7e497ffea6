"""Dead-leaves images: the same for a seed, and with the statistics that make them stand for images."""

import numpy as np

from privynet.leakage.auxiliary import dead_leaves


def test_same_seed_same_images_and_fewer_are_the_first():
    images = dead_leaves(70, 24, seed=4)
    assert images.shape == (70, 24, 24, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(dead_leaves(70, 24, seed=4), images)
    np.testing.assert_array_equal(dead_leaves(5, 24, seed=4), images[:5])
    assert (dead_leaves(70, 24, seed=5) != images).mean() > 0.9
    assert len({image.tobytes() for image in images}) == 70


def test_global_generator_is_left_alone():
    np.random.seed(1)
    expected = np.random.random(3)
    np.random.seed(1)
    dead_leaves(3, 16, seed=0)
    np.testing.assert_array_equal(np.random.random(3), expected)


def test_colours_are_correlated_and_all_levels_occur():
    images = dead_leaves(256, 32, seed=0) / 255
    correlation = np.corrcoef(images.reshape(-1, 3).T)
    assert 0.6 < correlation[np.triu_indices(3, 1)].min() < 0.99
    assert 0.4 < images.mean() < 0.55
    assert 0.18 < images.std() < 0.32
    assert set(np.rint(images * 255).astype(int).ravel()) == set(range(256))


def test_spectrum_falls_like_that_of_natural_images():
    """Power ~ 1 / f^a with a near 2, the law of natural images (and of dead leaves: Lee et al. 2001)."""
    grey = dead_leaves(512, 64, seed=1).mean(axis=3) / 255
    window = np.hanning(64)[:, None] * np.hanning(64)
    power = (abs(np.fft.fft2((grey - grey.mean((1, 2), keepdims=True)) * window)) ** 2).mean(0)
    y, x = np.meshgrid(*[np.fft.fftfreq(64) * 64] * 2, indexing="ij")
    radius = np.hypot(x, y)
    rings = [power[(radius >= k) & (radius < 2 * k)].mean() for k in (2, 4, 8, 16)]
    slope = np.polyfit(np.log([2, 4, 8, 16]), np.log(rings), 1)[0]
    assert -3.2 < slope < -1.7


def test_size_may_be_odd_and_large():
    assert dead_leaves(2, 33, seed=0).shape == (2, 33, 33, 3)
    assert dead_leaves(1, 224, seed=0).std() > 10
    assert dead_leaves(0, 16, seed=0).shape == (0, 16, 16, 3)
