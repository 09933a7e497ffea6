"""Several captures against noise."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from privynet.leakage import Pairs, View, attack_features
from privynet.leakage.attacks.averaging import AVERAGING
from privynet.leakage.attacks.decoders import DECODER_RESIDUAL

MakePairs = Callable[..., Pairs]
CAPTURES = 16
NOISE_STD = 1.0


def test_averaging_beats_the_decoder_on_a_noisy_encoder_and_not_on_an_exact_one(
    make_pairs: MakePairs,
) -> None:
    def captured(n: int, seed: int, captures: int, noise_std: float) -> Pairs:
        rng = np.random.default_rng([seed, captures])

        def mean_of_captures(planes: NDArray[np.float32]) -> NDArray[np.float32]:
            noise = rng.normal(0, noise_std, (captures, *planes.shape)).mean(axis=0)
            return (planes + noise).astype(np.float32)

        return make_pairs(mean_of_captures, n, 16, seed)

    gains = []
    for noise_std in (NOISE_STD, 0.0):
        train, val, test = (captured(n, n, 1, noise_std) for n in (200, 40, 60))
        means = tuple(captured(n, n, CAPTURES, noise_std) for n in (200, 40, 60))
        view = View.of_pairs(train, val)
        view = View(view.observed, view.mean_image, noise_std, view.pairs, captures=(means[0], means[1]))
        leakage = attack_features(
            view, test, attacks=[DECODER_RESIDUAL, AVERAGING], averaged=means[2].features, budget_s=2
        )
        single, averaged = (result.scores.psnr_db.value for result in leakage.attacks)
        gains.append(averaged - single)
    assert gains[0] > 2
    assert abs(gains[1]) < 1
