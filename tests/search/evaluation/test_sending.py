"""What a candidate would send, from features of the whole cut."""

from __future__ import annotations

import numpy as np
import pytest

from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.search.evaluation.sending import Sending

RNG = np.random.default_rng(0)
WHOLE = RNG.standard_normal((300, 6, 4, 4)).astype(np.float32) * np.arange(1, 7)[:, None, None]
MATRIX = RNG.standard_normal((2, 6)).astype(np.float32)


def test_kept_channels_are_those_channels() -> None:
    sending = Sending.fit((4, 1), lambda: WHOLE, noise_share=0.0, bits=32, seed=0)
    assert np.array_equal(sending.features(WHOLE, seed=0), WHOLE[:, [4, 1]])
    assert sending.error_std == 0


def test_a_mixing_mixes_place_by_place() -> None:
    sending = Sending.fit(MATRIX, lambda: WHOLE, noise_share=0.0, bits=32, seed=0)
    expected = (MATRIX @ WHOLE.reshape(300, 6, 16)).reshape(300, 2, 4, 4)
    assert sending.features(WHOLE, seed=0) == pytest.approx(expected, abs=1e-4)


def test_noise_has_its_share_of_the_features_spread_and_follows_from_the_seed() -> None:
    sending = Sending.fit((5,), lambda: WHOLE, noise_share=0.5, bits=32, seed=0)
    assert sending.noise_std == pytest.approx(0.5 * 6, rel=0.05)
    noisy = sending.features(WHOLE, seed=1)
    noise = noisy - WHOLE[:, [5]]
    assert noise.std() == pytest.approx(sending.noise_std, rel=0.05)
    assert np.array_equal(noisy, sending.features(WHOLE, seed=1))
    assert not np.array_equal(noisy, sending.features(WHOLE, seed=2))
    # Batches have noise of their own.
    assert abs(np.corrcoef(noise[:44].ravel(), noise[256:].ravel())[0, 1]) < 0.2


@pytest.mark.parametrize("bits", (8, 4, 2))
def test_a_quantised_payload_has_so_many_levels_and_the_stated_error(bits: int) -> None:
    sending = Sending.fit((0,), lambda: WHOLE, noise_share=0.0, bits=bits, seed=0)
    read = sending.features(WHOLE, seed=0)
    assert len(np.unique(read)) <= 2**bits
    inside = np.abs(WHOLE[:, [0]]) < 0.5 * np.abs(read).max()
    error = (read - WHOLE[:, [0]])[inside]
    assert error.std() == pytest.approx(sending.error_std, rel=0.1)


def test_it_is_what_the_built_encoder_sends() -> None:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 16)
    images = RNG.integers(0, 256, (20, 16, 16, 3)).astype(np.uint8)
    whole = make_encoder(splitter, cut="blocks.1.2").encode(images)
    matrix = RNG.standard_normal((3, whole.shape[1])).astype(np.float32)
    sending = Sending.fit(matrix, lambda: whole, noise_share=0.0, bits=8, seed=0)
    encoder = make_encoder(splitter, cut="blocks.1.2", projection=matrix, payload=sending.payload)
    read, sent = sending.features(whole, seed=0), encoder.encode(images)
    # A value on the border between two steps may be rounded either way.
    assert np.abs(read - sent).max() <= 1.001 * sending.payload.scale
    assert (read != sent).mean() < 0.01
