"""The payload in torch: on the sender's side part of the exported graph.

Arithmetic is in float32, so that ONNX Runtime's CPU provider, torch and numpy give the same integers; the
format itself is ``artifacts.Payload``, which the receiver needs too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..artifacts import Payload

__all__ = ["Payload", "packed", "received", "sent"]


def sent(features: Tensor, payload: Payload) -> Tensor:
    """Features float32 (n, C, h, w) -> what leaves the device.

    That is float32 (n, C, h, w) for 32 bits, uint8 (n, C, h, w) for 8, packed uint8 (n, bytes) for 4 and 2.
    """
    if not payload.quantised:
        return features
    return packed(torch.round(features / payload.scale) + payload.zero_point, payload)


def packed(steps: Tensor, payload: Payload) -> Tensor:
    """Whole numbers, float32 (n, C, h, w) -> what leaves the device, as ``sent`` says.

    Those beyond the payload's ends become these. Not for 32 bits.
    """
    steps = steps.clamp(0, payload.top)
    if payload.per_byte == 1:
        return steps.to(torch.uint8)
    # Shifts as sums of multiples: not every runtime has integer operators, and these are exact.
    flat = functional.pad(steps.flatten(1), (0, -math.prod(steps.shape[1:]) % payload.per_byte))
    together = flat[:, 0 :: payload.per_byte]
    for place in range(1, payload.per_byte):
        together = together + flat[:, place :: payload.per_byte] * float(2 ** (payload.bits * place))
    return together.to(torch.uint8)


def received(values: Tensor, payload: Payload, feature_shape: tuple[int, int, int]) -> Tensor:
    """What left the device for n images -> float32 (n, C, h, w), as the receiver reads it."""
    if not payload.quantised:
        return values
    if payload.per_byte > 1:
        places = torch.arange(0, 8, payload.bits, device=values.device)
        steps = (values.to(torch.int64).unsqueeze(-1) >> places) & payload.top
        values = steps.flatten(1)[:, : math.prod(feature_shape)].reshape(-1, *feature_shape)
    return (values.to(torch.float32) - payload.zero_point) * payload.scale
