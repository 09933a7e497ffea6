import numpy as np
import pytest
import scipy.ndimage
from numpy.typing import NDArray

from privynet.errors import InputError
from privynet.leakage import score_images


def _images(n: int, size: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(256, size=(n, size, size, 3)).astype(np.uint8)
    noise = rng.normal(0, 0.1, truth.shape)
    return np.clip(truth / 255 + noise, 0, 1).astype(np.float32), truth


def _slow_ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Wang et al. 2004 on two (R, R) planes, the 11 x 11 window written out."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred: NDArray[np.float64] = scipy.ndimage.correlate(x, window, mode="mirror")
        return blurred

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return float(ssim.mean())


@pytest.mark.parametrize("size", [16, 33])
def test_scores_equal_slow_computations(size: int) -> None:
    guess, truth = _images(5, size, seed=size)
    blind = np.full((size, size, 3), 0.5, np.float32)
    scores = score_images(guess, truth, mean_image=blind)
    for i in range(5):
        a, b = guess[i].astype(np.float64), truth[i] / 255
        error = sum((a[place] - b[place]) ** 2 for place in np.ndindex(a.shape))
        assert scores.squared_error[i] == pytest.approx(error, rel=1e-5)
        assert scores.psnr_db[i] == pytest.approx(10 * np.log10(size * size * 3 / error), abs=1e-4)
        assert scores.ssim[i] == pytest.approx(
            np.mean([_slow_ssim(a[:, :, c], b[:, :, c]) for c in range(3)]), abs=1e-4
        )
    blind_errors = ((blind - truth / 255) ** 2).sum()
    summary = scores.summary()
    assert summary.r2.value == pytest.approx(1 - scores.squared_error.sum() / blind_errors, rel=1e-6)
    assert summary.psnr_db.value == pytest.approx(scores.psnr_db.mean())
    assert summary.psnr_db.n == summary.ssim.n == summary.r2.n == 5
    assert summary.r2.ci95[0] <= summary.r2.value <= summary.r2.ci95[1]


def test_perfect_reconstruction_reaches_the_cap_and_the_blind_guess_scores_zero() -> None:
    _, truth = _images(4, 16, seed=1)
    blind = (truth.mean(axis=0) / 255).astype(np.float32)
    perfect = score_images((truth / np.float32(255)).astype(np.float32), truth, mean_image=blind).summary()
    assert (perfect.psnr_db.value, perfect.r2.value) == (60.0, 1.0)
    assert perfect.ssim.value == pytest.approx(1, abs=1e-6)
    guessed = score_images(np.broadcast_to(blind, truth.shape), truth, mean_image=blind).summary()
    assert guessed.r2.value == pytest.approx(0, abs=1e-12)


def test_worst_decile_is_what_one_image_in_ten_reaches() -> None:
    guess, truth = _images(200, 16, seed=3)
    blind = (truth.mean(axis=0) / 255).astype(np.float32)
    scores = score_images(guess, truth, mean_image=blind)
    document = scores.summary().document()
    for name, values in (("psnr_db", scores.psnr_db), ("ssim", scores.ssim), ("r2", scores.r2)):
        assert np.mean(values >= document[name]["worst_decile"]) == pytest.approx(0.1, abs=0.011)
    assert "worst_decile" not in document["reidentification"]


def test_r2_of_one_image_is_that_of_the_definition() -> None:
    guess, truth = _images(5, 16, seed=4)
    blind = (truth.mean(axis=0) / 255).astype(np.float32)
    scores = score_images(guess, truth, mean_image=blind)
    for index in range(5):
        alone = score_images(guess[[index]], truth[[index]], mean_image=blind).summary()
        assert scores.r2[index] == pytest.approx(alone.r2.value)


def test_shapes_that_differ_are_refused() -> None:
    guess, truth = _images(3, 16, seed=0)
    with pytest.raises(InputError, match=r"\(2, 16, 16, 3\)"):
        score_images(guess[:2], truth, mean_image=guess[0])
