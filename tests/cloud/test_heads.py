"""Every head takes every feature shape, and says what it cannot take."""

import pytest
import torch

from privynet.cloud import HEADS, build_head
from privynet.errors import InputError


@pytest.mark.parametrize("model", HEADS)
@pytest.mark.parametrize(
    "shape", [(5, 1, 1), (4, 2, 2), (3, 3, 3), (6, 4, 4), (8, 7, 7), (3, 16, 16), (2, 33, 17), (3, 64, 64)]
)
def test_head_maps_features_to_one_logit_a_class(model, shape):
    head = build_head(model, shape, 7)
    assert head(torch.randn(2, *shape)).shape == (2, 7)


def test_auto_chooses_by_the_maps_size():
    assert type(build_head("auto", (8, 1, 1), 2)) is type(build_head("mlp", (8, 1, 1), 2))
    assert type(build_head("auto", (8, 8, 8), 2)) is type(build_head("conv", (8, 8, 8), 2))


def test_unknown_head_is_answered_with_the_allowed_names():
    with pytest.raises(InputError, match=r"unknown head model 'cnov'; did you mean conv\?.*mlp, linear"):
        build_head("cnov", (8, 4, 4), 10)


@pytest.mark.parametrize(
    ("shape", "classes", "arguments", "message"),
    [
        ((8, 4, 4), 1, {}, "1 classes"),
        ((8, 0, 4), 3, {}, "feature shape"),
        ((8, 4, 4), 3, {"depth": 2}, "does not take.*depth"),
    ],
)
def test_head_that_cannot_be_built_is_refused(shape, classes, arguments, message):
    with pytest.raises(InputError, match=message):
        build_head("conv", shape, classes, **arguments)
