"""Which cuts of a network fit a device? Shapes alone: nothing is downloaded, no weights are read.

python examples/choose_a_cut.py torchvision:mobilenet_v2 raspberry-pi-zero-2w 64
"""

from __future__ import annotations

import sys

from privynet.device_profiles import load_profile
from privynet.encoders import Splitter, load_backbone, parse_backbone

DEFAULTS = ("torchvision:mobilenet_v2", "raspberry-pi-zero-2w", "64")


def main(backbone: str, device: str, input_size: str) -> None:
    """Print each cut with its predicted latency and payload, and whether both are within the limits."""
    profile = load_profile(device)
    splitter = Splitter(load_backbone(parse_backbone(backbone), shapes_only=True), int(input_size))
    for cut in splitter.cuts:
        latency = profile.predict_latency_ms(cut.costs)
        fits = latency.high <= profile.limits.get("latency_ms", float("inf"))
        fits = fits and cut.costs.payload_bytes <= profile.limits.get("payload_bytes", float("inf"))
        print(
            f"{'fits' if fits else '    '}  {cut.name:24} {cut.costs.payload_bytes:8,} bytes  "
            f"{latency.low:6.1f} to {latency.high:6.1f} ms (estimated)"
        )


if __name__ == "__main__":
    main(*(sys.argv[1:] or DEFAULTS))
