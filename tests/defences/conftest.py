"""A small encoder of the bundled backbone, and the digits."""

from __future__ import annotations

import pytest

from privynet.data import DataSet, open_data
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone

SALT = "00" * 16


@pytest.fixture(scope="session")
def digits() -> DataSet:
    return open_data("digits")


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """12 channels of 8x8 from images of 16x16."""
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 16)
    return make_encoder(splitter, cut="blocks.2.2", channels=range(0, 48, 4), salt=SALT)
