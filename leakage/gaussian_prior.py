"""A Gaussian in place of the images' distribution: what the van Trees bound takes as known of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


class GaussianPrior(NamedTuple):
    """Mean (d,) and covariance (d, d), float64, of images in [0, 1]."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def sample(self, n: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """Images float32 (n, 3, R, R); not clipped, so some values lie outside [0, 1]."""
        size = math.isqrt(len(self.mean) // 3)
        normal = generator.standard_normal((n, len(self.mean)))
        drawn = self.mean + normal @ covariance_root(self.covariance, len(self.mean)).T
        return drawn.astype(np.float32).reshape(n, 3, size, size)


def gaussian_prior(images: NDArray[Any] | Tensor) -> GaussianPrior:
    """The Gaussian of images, uint8 (n, R, R, 3) or float (n, 3, R, R) in [0, 1], n at least 2.

    The covariance is shrunk towards a multiple of the identity as far as Ledoit and Wolf (2004) estimate
    that its sampling error asks for. That raises the least variances: along these the prior then knows
    less than it might, and the van Trees bound is higher. More images, less of that. Raises ``InputError``
    for other shapes, and for images that are all equal.
    """
    planes = image_planes(images)
    flat = planes.reshape(len(planes), -1).astype(np.float64)
    n, d = flat.shape
    mean = flat.mean(0)
    flat -= mean
    covariance = flat.T @ flat
    covariance /= n
    level = float(np.trace(covariance)) / d
    if n < 2 or not level > 0:
        raise InputError(f"{n} images without variance have no covariance", hint="give more images")
    size = float(np.square(covariance).sum())
    spread = size - d * level**2
    error = (float(np.square(np.vecdot(flat, flat)).sum()) / n - size) / n
    shrinkage = min(1.0, error / spread) if spread > 0 else 1.0
    covariance *= 1 - shrinkage
    covariance[np.diag_indices(d)] += shrinkage * level
    return GaussianPrior(mean, covariance)


def image_planes(images: NDArray[Any] | Tensor) -> NDArray[np.float32]:
    """float32 (n, 3, R, R) in units of [0, 1]."""
    array = images if isinstance(images, np.ndarray) else images.detach().cpu().numpy()
    raw = array.dtype == np.uint8
    ordered = np.moveaxis(array, -1, 1) if raw and array.ndim == 4 else array
    numbers = raw or np.issubdtype(array.dtype, np.floating)
    if (
        not numbers
        or array.ndim != 4
        or len({*ordered.shape[2:]}) > 1
        or ordered.shape[1] != 3
        or not len(array)
    ):
        raise InputError(
            f"images are {array.dtype} {array.shape}",
            hint="needed: uint8 (n, R, R, 3), or float (n, 3, R, R) in [0, 1]; 1 or more",
        )
    planes = np.array(ordered, np.float32, order="C")
    if raw:
        planes /= 255
    if not np.isfinite(planes).all():
        raise InputError("images have values that are not finite", hint="remove them")
    return planes


def covariance_root(covariance: NDArray[np.floating[Any]], d: int) -> NDArray[np.float64]:
    """The lower triangular L with L L^T the covariance."""
    from scipy.linalg import LinAlgError, cholesky

    matrix = np.asarray(covariance, np.float64)
    if matrix.shape != (d, d):
        raise InputError(
            f"a prior covariance of shape {matrix.shape}", hint=f"needed: ({d}, {d}), as the images"
        )
    try:
        symmetric = bool(np.isfinite(matrix).all()) and np.allclose(
            matrix, matrix.T, rtol=1e-6, atol=1e-9 * float(np.abs(matrix).max())
        )
        root: NDArray[np.float64] = cholesky(matrix, lower=True) if symmetric else np.empty(0)
    except LinAlgError:
        symmetric = False
    if not symmetric:
        raise InputError(
            "the prior covariance is not symmetric and positive definite",
            hint="gaussian_prior makes one that is",
        )
    return root
