from typing import Any

import numpy as np
import pytest

from privynet.errors import InputError
from privynet.leakage import Pairs

_GOOD: dict[str, Any] = {
    "features": np.zeros((4, 2, 3, 3), np.float16),
    "images": np.zeros((4, 16, 16, 3), np.uint8),
    "labels": np.zeros(4, np.int64),
}


def test_pairs_know_their_shapes() -> None:
    pairs = Pairs(**_GOOD)
    assert (len(pairs), pairs.feature_shape, pairs.image_size) == (4, (2, 3, 3), 16)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("features", np.zeros((4, 2, 3), np.float32)),
        ("features", np.zeros((4, 2, 3, 3), np.int8)),
        ("features", np.zeros((3, 2, 3, 3), np.float32)),
        ("images", np.zeros((4, 16, 16, 3), np.float32)),
        ("images", np.zeros((4, 16, 16, 1), np.uint8)),
        ("images", np.zeros((4, 16, 20, 3), np.uint8)),
        ("images", np.zeros((4, 15, 15, 3), np.uint8)),
        ("labels", np.zeros(5, np.int64)),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError):
        Pairs(**{**_GOOD, name: value})
