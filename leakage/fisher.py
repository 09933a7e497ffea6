"""Least reconstruction errors, for encoders that add Gaussian noise, from Fisher information.

An encoder that sends f(x) + s * noise tells I(x) = J^T J / s^2 about the image x, J being the Jacobian of f
(Maeng, Guo, Kariyappa and Suh 2023). d = 3*R*R values in [0, 1], in the order (3, R, R). Two bounds follow:

- ``unbiased_mse``: E|guess - x|^2 / d >= 1 / dFIL with dFIL = tr(E I) / d (Cramer and Rao). It holds for
  attackers whose guesses are right on average for every x, and no real one is: whoever knows what images look
  like, or only clips to [0, 1], can do better. A scale, not a guarantee.
- ``van_trees_mse``: E|guess - x|^2 / d >= tr((E I + inverse prior covariance)^-1) / d (van Trees 1968,
  multivariate form by Gill and Levit 1995). It holds for every attacker, with any computing power, who knows
  f, the noise's law and the prior, **if** images are drawn from that Gaussian prior. Real images are not: an
  attacker who knows more about them than mean and covariance can do better.

Both are means over images, so single images may be rebuilt better; both survive rounding and whatever else is
done to the features after the noise, and neither covers several captures of one scene (k captures: the
information is k times as much). Without noise there is no such bound. The mean information is itself an
estimate: see ``average_information``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..progress import SILENT, Progress, Task
from .gaussian_prior import covariance_root, image_planes
from .view import FeatureMap

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 16
_ROWS = 1024
# A product with the Jacobian from the right (forward mode) passes through the network twice.
_FORWARD_COSTS = 2


@dataclass(frozen=True)
class Bounds:
    """Least mean squared errors per value of an image in [0, 1]; on what they rest: see the module.

    ``dfil``: tr(E I) / d. ``van_trees_trace_mse``: the weaker form d / (tr E I + tr of the inverse prior
    covariance), which says little where the covariance is ill-conditioned, as that of images is.
    ``n``: images that the mean information is taken over.
    """

    noise_std: float
    dfil: float
    unbiased_mse: float
    """Infinite where the features do not depend on the image."""
    van_trees_mse: float
    van_trees_trace_mse: float
    n: int

    @property
    def unbiased_psnr_db(self) -> float:
        """PSNR of that mean squared error (the mean of PSNRs of single images may be higher)."""
        return _psnr_db(self.unbiased_mse)

    @property
    def van_trees_psnr_db(self) -> float:
        """PSNR of that mean squared error (the mean of PSNRs of single images may be higher)."""
        return _psnr_db(self.van_trees_mse)

    def document(self, *, prior: str = "gaussian") -> dict[str, Any]:
        """As in an audit's ``bound``; ``prior`` says which one; what is infinite is ``None``."""
        finite = math.isfinite(self.unbiased_mse)
        return {
            "noise_std": self.noise_std,
            "dfil": self.dfil,
            "unbiased_mse": self.unbiased_mse if finite else None,
            "unbiased_psnr_db": self.unbiased_psnr_db if finite else None,
            "van_trees_mse": self.van_trees_mse,
            "van_trees_psnr_db": self.van_trees_psnr_db,
            "prior": prior,
            "n": self.n,
        }


@dataclass(frozen=True)
class Information:
    """E[J^T J] over ``n`` images, (d, d) float64: the Fisher information under noise of deviation 1."""

    matrix: NDArray[np.float64] = field(repr=False)
    n: int

    def bounds(self, noise_std: float, prior_covariance: NDArray[np.floating[Any]]) -> Bounds:
        """For noise of deviation ``noise_std`` (in the features' units) and a prior covariance (d, d).

        Takes a few products of (d, d) matrices. Raises ``InputError`` where there is no noise, or the
        covariance is of another shape, not symmetric or not positive definite.
        """
        from scipy.linalg import cholesky, solve_triangular

        _check_noise(noise_std)
        d = len(self.matrix)
        root = covariance_root(prior_covariance, d)
        # tr((I + C^-1)^-1) with C = L L^T is tr(L (1 + L^T I L)^-1 L^T): C, ill-conditioned, is not inverted
        inner = root.T @ self.matrix @ root
        inner /= noise_std**2
        inner[np.diag_indices(d)] += 1
        halved = solve_triangular(cholesky(inner, lower=True, overwrite_a=True), root.T, lower=True)
        prior_information = np.square(solve_triangular(root, np.eye(d), lower=True)).sum()
        trace = float(np.trace(self.matrix)) / noise_std**2
        return Bounds(
            noise_std=float(noise_std),
            dfil=trace / d,
            unbiased_mse=d / trace if trace > 0 else math.inf,
            van_trees_mse=float(np.square(halved).sum()) / d,
            van_trees_trace_mse=float(d / (trace + prior_information)),
            n=self.n,
        )


def average_information(
    feature_map: FeatureMap, images: NDArray[Any] | Tensor, *, progress: Progress = SILENT
) -> Information:
    """E[J^T J] of a feature map over images, uint8 (n, R, R, 3) or float (n, 3, R, R) in [0, 1].

    Exact Jacobians in float32, a row (or, where features are many, a column) of a batch of images at a
    time; products and sums in float64. Memory: a few (d, d) float64 matrices, and one image's Jacobian
    where it is taken by columns. A tensor's device is kept. Features of an image must not depend on the
    others in its batch.

    The bounds want the mean over the prior's own images (``GaussianPrior.sample``); real images give what
    holds as far as the mean information of both is the same. They are convex functions of this mean, so
    too few images make them too high on average: **optimistic**, most so along directions that no image
    was informative about. Compare n with n / 2 to see how much is left. Raises ``InputError`` for images
    of other shapes.
    """
    import torch

    planes = image_planes(images)
    tensor = images if isinstance(images, torch.Tensor) and images.is_floating_point() else None
    inputs = torch.from_numpy(planes) if tensor is None else tensor.detach().float()
    with torch.no_grad():
        outputs = feature_map(inputs[:1]).numel()
    total = np.zeros((planes[0].size, planes[0].size))
    with progress.task("Fisher information", len(inputs)) as task:
        for rows in _jacobian_parts(feature_map, inputs, outputs, task):
            total += rows.T @ rows
    return Information(total / len(inputs), len(inputs))


def _jacobian_parts(
    feature_map: FeatureMap, images: Tensor, outputs: int, task: Task
) -> Iterator[NDArray[np.float64]]:
    """Rows of all images' Jacobians, float64 (some, d), each row once, in any order."""
    pixels = images[0].numel()
    if outputs > _FORWARD_COSTS * pixels:
        try:
            yield from _by_columns(feature_map, images, outputs, task)
            return
        except NotImplementedError:
            pass  # torch lacks the forward derivative of some operator: it says so at the first column
    yield from _by_rows(feature_map, images, outputs, task)


def _by_rows(
    feature_map: FeatureMap, images: Tensor, outputs: int, task: Task
) -> Iterator[NDArray[np.float64]]:
    """Vector-Jacobian products: one feature of every image of a batch in each pass backwards."""
    import torch

    pixels = images[0].numel()
    buffer = np.empty((_ROWS, pixels))
    filled = 0
    for first in range(0, len(images), _BATCH):
        inputs = images[first : first + _BATCH].clone().requires_grad_()
        with torch.enable_grad():
            features = feature_map(inputs).flatten(1).sum(0)
        for output in range(outputs):
            (rows,) = torch.autograd.grad(
                features[output], inputs, retain_graph=output + 1 < outputs, materialize_grads=True
            )
            if filled + len(rows) > _ROWS:
                yield buffer[:filled]
                filled = 0
            buffer[filled : filled + len(rows)] = rows.flatten(1).cpu().numpy()
            filled += len(rows)
            task.advance(len(rows) / outputs)
    yield buffer[:filled]


def _by_columns(
    feature_map: FeatureMap, images: Tensor, outputs: int, task: Task
) -> Iterator[NDArray[np.float64]]:
    """Jacobian-vector products: a batch of pixels of one image in each pass forwards."""
    import torch
    from torch.autograd import forward_ad

    pixels = images[0].numel()
    columns = np.empty((pixels, outputs), np.float32)
    for image in images:
        for start in range(0, pixels, _BATCH):
            count = min(_BATCH, pixels - start)
            directions = torch.zeros(count, pixels, device=images.device)
            directions[:, start : start + count].fill_diagonal_(1)
            with forward_ad.dual_level():
                inputs = forward_ad.make_dual(  # type: ignore[no-untyped-call]
                    image.expand(count, *image.shape).contiguous(), directions.view(count, *image.shape)
                )
                dual = forward_ad.unpack_dual(feature_map(inputs))  # type: ignore[no-untyped-call]
                along = dual.tangent
                # none where the features do not depend on the image
                columns[start : start + count] = (
                    0 if along is None else along.detach().flatten(1).cpu().numpy()
                )
            task.advance(count / pixels)
        for start in range(0, outputs, _ROWS):
            yield columns[:, start : start + _ROWS].T.astype(np.float64)


def _check_noise(noise_std: float) -> None:
    if not noise_std > 0 or not math.isfinite(noise_std):
        raise InputError(
            f"no guarantee exists for noise of standard deviation {noise_std:g}",
            hint="needed: an encoder that adds noise; without it only attacks can be measured",
        )


def _psnr_db(mean_squared_error: float) -> float:
    return -10 * math.log10(mean_squared_error) if mean_squared_error < math.inf else -math.inf
