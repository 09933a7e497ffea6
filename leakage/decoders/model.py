"""The inversion decoder's model: everything between a feature map and an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import PrivynetError
from ..accelerators import fast_precision
from ..baselines import mean_image
from ..pairs import Pairs
from .geometry import Geometry
from .network import ARCHITECTURES, InversionNetwork

_BATCH = 256
_RECONSTRUCT_BATCH = 64


class InversionModel(nn.Module):
    """Standardised features to deviations from the mean image: a sum of linear parts and a network.

    Built for the shapes of ``pairs``, with their statistics, without linear parts; the network's weights
    come from torch's global generator. Without ``architecture`` there is no network. Features that are not
    finite raise ``PrivynetError``.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    mean_image: Tensor

    def __init__(self, pairs: Pairs, architecture: str | None = None) -> None:
        super().__init__()
        mean, scale = _feature_statistics(pairs)
        self.geometry = Geometry(pairs.feature_shape, pairs.image_size)
        self.register_buffer("feature_mean", torch.from_numpy(mean.astype(np.float32)))
        self.register_buffer("feature_scale", torch.from_numpy(scale.astype(np.float32))[:, None, None])
        self.register_buffer("mean_image", torch.from_numpy(mean_image(pairs.images)).permute(2, 0, 1))
        self.linear = nn.ModuleList()
        self.network: InversionNetwork | None = (
            ARCHITECTURES[architecture](self.geometry) if architecture else None
        )

    def lay(self, features: NDArray[Any]) -> Tensor:
        """Features (n, C, h, w) -> standardised, on the device, as ``forward`` takes them."""
        batch = torch.from_numpy(_finite(features)).to(self.feature_mean.device)
        return self.geometry.lay((batch - self.feature_mean) / self.feature_scale)

    def deviations(self, images: NDArray[np.uint8]) -> Tensor:
        """uint8 images (n, R, R, 3) -> float32 (n, 3, R, R) less the mean image, on the device."""
        batch = torch.from_numpy(np.array(images)).to(self.mean_image.device)
        return batch.permute(0, 3, 1, 2).float() / 255 - self.mean_image

    def forward(self, laid: Tensor) -> Tensor:
        """Laid-out features -> deviations float32 (n, 3, R, R)."""
        out = laid.new_zeros(len(laid), *self.mean_image.shape)
        for part in self.linear:
            out = out + part(laid)
        if self.network is not None:
            with fast_precision(laid.device):
                rest = self.network(laid.contiguous(memory_format=torch.channels_last))
            out = out + rest.float()
        return out

    def reconstruct(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Features (n, C, h, w) -> images float32 (n, R, R, 3) in [0, 1]."""
        size = self.geometry.image_size
        out = np.empty((len(features), size, size, 3), np.float32)
        with torch.inference_mode():
            for start in range(0, len(features), _RECONSTRUCT_BATCH):
                images = self(self.lay(features[start : start + _RECONSTRUCT_BATCH])) + self.mean_image
                images = images.clamp(0, 1).permute(0, 2, 3, 1)
                out[start : start + _RECONSTRUCT_BATCH] = images.cpu().numpy()
        return out


def _finite(features: NDArray[Any]) -> NDArray[np.float32]:
    copied = np.array(features, dtype=np.float32)
    if not np.isfinite(copied).all():
        raise PrivynetError("the features are not finite", hint="check the encoder's input scaling")
    return copied


def _feature_statistics(pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean per element (C, h, w) and standard deviation about it per channel (C,); 1 where it is zero."""
    total = np.zeros(pairs.feature_shape, np.float64)
    squares = np.zeros(pairs.feature_shape, np.float64)
    for start in range(0, len(pairs), _BATCH):
        batch = _finite(pairs.features[start : start + _BATCH])
        total += batch.sum(axis=0, dtype=np.float64)
        squares += np.square(batch, dtype=np.float64).sum(axis=0)
    mean = total / len(pairs)
    variance = np.maximum(squares / len(pairs) - mean**2, 0).mean(axis=(1, 2))
    # Below this share of the mean square the variance is rounding error of a constant channel.
    floor = 1e-10 * (squares / len(pairs)).mean(axis=(1, 2))
    return mean, np.sqrt(np.where(variance > floor, variance, 1))
