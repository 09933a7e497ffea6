from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from privynet.errors import InputError, PrivynetError
from privynet.leakage import Pairs, mean_image
from privynet.leakage.decoders import ARCHITECTURES, train_decoder

MakePairs = Callable[..., Pairs]


every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@every_architecture
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 1, 1), 16),
        ((1024, 1, 1), 32),
        ((3, 2, 1), 33),
        ((5, 7, 7), 32),
        ((16, 14, 9), 17),
        ((4, 33, 33), 32),
        ((3, 64, 64), 16),
        ((2, 8, 8), 128),
    ],
)
def test_any_feature_shape_gives_images_of_any_size(
    shape: tuple[int, int, int], size: int, architecture: str
) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, *shape)).astype(np.float32)
    images = rng.integers(256, size=(6, size, size, 3)).astype(np.uint8)
    pairs = Pairs(features, images, np.zeros(6, np.int64))
    decoder = train_decoder(pairs, pairs, architecture=architecture, budget_s=0.2)
    rebuilt = decoder.reconstruct(features)
    assert rebuilt.shape == images.shape
    assert np.isfinite(rebuilt).all()
    assert decoder.pairs == 6


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_pixels_folded_into_channels_are_put_back_in_place(fold: int, make_pairs: MakePairs) -> None:
    def folded(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return torch.pixel_unshuffle(torch.from_numpy(planes), fold).numpy()

    train, val, test = (make_pairs(folded, n, 32, n) for n in (100, 20, 21))
    rebuilt = train_decoder(train, val, budget_s=5).reconstruct(test.features)
    np.testing.assert_allclose(rebuilt, test.images / 255, atol=0.01)


def test_linear_start_is_no_worse_than_least_squares(make_pairs: MakePairs) -> None:
    mixing = np.random.default_rng(0).normal(size=(16 * 16 * 3, 24)).astype(np.float32)

    def project(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return (planes.reshape(len(planes), -1) @ mixing)[:, :, None, None]

    train, val = (make_pairs(project, n, 16, n) for n in (150, 80))
    decoder = train_decoder(train, val, budget_s=0.1)
    x, y = (np.c_[p.features[:, :, 0, 0], np.ones(len(p))] for p in (train, val))
    weights = np.linalg.lstsq(x, train.images.reshape(150, -1) / 255, rcond=None)[0]
    least_squares = np.mean((y @ weights - val.images.reshape(80, -1) / 255) ** 2)
    assert decoder.val_psnr_db >= -10 * np.log10(least_squares) - 0.01


@every_architecture
def test_training_improves_on_the_linear_start(architecture: str, make_pairs: MakePairs) -> None:
    def zigzag(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([np.abs(planes - level) for level in (0.3, 0.6)], axis=1)

    train, val = (make_pairs(zigzag, n, 16, n) for n in (200, 50))
    start, trained = (
        train_decoder(train, val, architecture=architecture, budget_s=budget).val_psnr_db
        for budget in (1e-3, 4)
    )
    assert trained > start + 1


def test_half_precision_memory_map_is_read_in_place(tmp_path: Path, make_pairs: MakePairs) -> None:
    train, val = (make_pairs(lambda planes: planes.astype(np.float16), n, 16, n) for n in (100, 20))
    np.save(tmp_path / "features.npy", train.features)
    mapped = Pairs(np.load(tmp_path / "features.npy", mmap_mode="r"), train.images, train.labels)
    decoder = train_decoder(mapped, val, budget_s=2)
    np.testing.assert_allclose(decoder.reconstruct(val.features), val.images / 255, atol=0.03)


def test_unseen_feature_values_are_reconstructed_within_the_image_range(make_pairs: MakePairs) -> None:
    pairs = make_pairs(lambda planes: planes, 50, 16)
    rebuilt = train_decoder(pairs, pairs, budget_s=1).reconstruct(100 * pairs.features)
    assert 0 <= rebuilt.min() <= rebuilt.max() <= 1


def test_one_pair_gives_its_image(make_pairs: MakePairs) -> None:
    pairs = make_pairs(lambda planes: planes, 1, 16)
    rebuilt = train_decoder(pairs, pairs, budget_s=0.5).reconstruct(pairs.features)
    np.testing.assert_allclose(rebuilt[0], mean_image(pairs.images), atol=0.01)


def test_bad_input_is_refused(make_pairs: MakePairs) -> None:
    pairs, larger = (make_pairs(lambda planes: planes, 8, size) for size in (16, 32))
    with pytest.raises(InputError, match="budget 0"):
        train_decoder(pairs, pairs, budget_s=0)
    with pytest.raises(InputError, match="differ"):
        train_decoder(pairs, larger)
    with pytest.raises(InputError, match="tpu"):
        train_decoder(pairs, pairs, accelerator="tpu")
    with pytest.raises(InputError, match="unknown architecture 'transformer'"):
        train_decoder(pairs, pairs, architecture="transformer")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_named(value: float, make_pairs: MakePairs) -> None:
    pairs = make_pairs(lambda planes: planes, 8, 16)
    features = pairs.features.copy()
    features[5, 0, 0, 0] = value
    with pytest.raises(PrivynetError, match="not finite"):
        train_decoder(Pairs(features, pairs.images, pairs.labels), pairs)
