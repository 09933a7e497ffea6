"""What benchmarks find beside a checkout: real images and real weights, through $PRIVYNET_SHARED."""

from __future__ import annotations

import os
import sys

MOBILENET = (
    "timm:mobilenetv2_100,pad_type=same,mean=0.5,std=0.5,"
    "weights={shared}/weights/mobilenetv2_100-imagenet.timm.safetensors"
)
"""ImageNet's MobileNetV2; ``shared`` is the folder."""


def shared_folder() -> str:
    """The folder; its images are then found too. Ends the program where it is not named."""
    shared = os.environ.get("PRIVYNET_SHARED")
    if shared is None:
        sys.exit("error: set PRIVYNET_SHARED to the folder with data/ and weights/")
    os.environ.setdefault("PRIVYNET_DATA", f"{shared}/data")
    return shared
