"""Finding which channels of a public backbone an encoder keeps, from what it sends.

Statistics of the observed channels are compared with those of all candidates on images of another domain.
How far a channel's statistics move between domains is learned from groups of the attacker's own images that
differ: it gives the metric. The assignment that costs least (Kuhn 1955) is then refined by the correlations
between channels, which makes it a quadratic assignment; it is solved by turns, each a linear assignment with
the last one's partners (single exchanges at the end found nothing better on any cut that was tried).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .channel_statistics import ChannelStatistics, Floats, Reference, cells, pair_correlations
from .transmission import Transmission

Channels = NDArray[np.int64]

_DIRECTIONS = 12
_SHARE_OF_BETWEEN = 0.02
_CORRELATION_FLOOR = 0.01
_PAIR_WEIGHT = 0.5
# Turns over which the correlations gain weight, and the most turns.
_RISE, _TURNS = 4, 14
_SHIFT_SHRINKAGE = 8
_PRIOR_CHANNELS = 16
# The margin of a match, in units of -2 log likelihood, at which it is trusted about three quarters.
_TRUST = 5.0


@dataclass(frozen=True)
class Match:
    """``channels``: the candidate for each observed channel, all different. ``cost``: their mean.

    ``probabilities``: float64 (D', D), how likely each candidate is for each observed channel.
    """

    channels: Channels
    cost: float
    probabilities: Floats = field(repr=False)


@dataclass(frozen=True)
class MeanImages:
    """Features of mean images: how an attacker uses that he knows the private domain's mean image.

    ``private``: of that image, float32 (D, h, w). ``of(rows)``: of the mean of these images of his own.
    What the mean of features exceeds the features of the mean by changes little from domain to domain.
    """

    private: NDArray[np.float32] = field(repr=False)
    of: Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass
class Candidates:
    """The candidates' statistics and how they vary between groups of ``observations`` images.

    ``features``: all D channels on the attacker's images, float32 (m, D, h, w).
    """

    features: NDArray[np.float32] = field(repr=False)
    observations: int
    seed: int = 0
    mean_images: MeanImages | None = None

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.reference = Reference.of(self.features, rng)
        statistics = ChannelStatistics(self.features, self.reference)
        description = statistics.describe()
        self.correlations = pair_correlations(self.features)
        groups = self._groups(statistics, rng)
        moved = np.concatenate([statistics.describe(rows) - description for rows in groups])
        if self.mean_images is not None:
            everything = np.arange(len(self.features))
            excess = self._excess(statistics, everything, self.mean_images)
            expected = self._cells(self.mean_images.private) + excess
            description = np.concatenate([description, expected], axis=1)
            strayed = [self._excess(statistics, rows, self.mean_images) - excess for rows in groups]
            moved = np.concatenate([moved, np.concatenate(strayed)], axis=1)
        self.whitening = _whitening(moved, description)
        self.whitened = description @ self.whitening
        self.unary_scale = _tempering(np.square(moved @ self.whitening).sum(axis=1))
        changes = [
            [(part - whole) ** 2 for part, whole in zip(parts, self.correlations, strict=True)]
            for parts in (pair_correlations(self.features[rows]) for rows in groups)
        ]
        variances = [np.mean(offset, axis=0) for offset in zip(*changes, strict=True)]
        self.variances = [(each + each.mean()) / 2 + _CORRELATION_FLOOR for each in variances]
        per_channel = [
            sum((part / v).mean(axis=1) for part, v in zip(parts, self.variances, strict=True))
            for parts in changes
        ]
        self.pair_scale = _tempering(np.concatenate(per_channel))
        squares = np.square(moved @ self.whitening).sum(axis=1).mean() / self.unary_scale
        pairs = _PAIR_WEIGHT * np.mean(per_channel) / self.pair_scale
        self.usual_cost = max(float(squares + pairs), 1e-9)
        """What a match costs between the candidates' own groups."""

    def describe(self, observed: NDArray[np.float32]) -> Floats:
        """Observed features (n, D', h, w) as the candidates are described, (D', F)."""
        statistics = ChannelStatistics(observed, self.reference)
        description = statistics.describe()
        if self.mean_images is not None:
            means = statistics.means.mean(axis=0, dtype=np.float64) / self.reference.scale
            description = np.concatenate([description, means], axis=1)
        return description @ self.whitening

    def _excess(
        self, statistics: ChannelStatistics, rows: NDArray[np.int64], mean_images: MeanImages
    ) -> Floats:
        means = statistics.means[rows].mean(axis=0, dtype=np.float64) / self.reference.scale
        return np.asarray(means - self._cells(mean_images.of(rows)), np.float64)

    def _cells(self, features: NDArray[np.float32]) -> Floats:
        return np.asarray(cells(features[None])[0][0] / self.reference.scale, np.float64)

    def _groups(self, statistics: ChannelStatistics, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Images that differ from the rest along the directions in which images differ most."""
        count = len(self.features)
        summaries = statistics.image_summaries
        summaries = (summaries - summaries.mean(axis=0)) / (summaries.std(axis=0) + 1e-6)
        directions = np.linalg.svd(summaries, full_matrices=False)[0][:, :_DIRECTIONS]
        size = max(1, min(self.observations, count // 3))
        groups = []
        for direction in directions.T:
            order = np.argsort(direction, kind="stable")
            for half in (order[: -(-2 * count // 3)], order[count // 3 :]):
                groups.append(rng.permutation(half)[:size])
        return groups


def find_channels(
    observed: NDArray[Any],
    backbone_features: NDArray[Any],
    *,
    noise_std: float = 0.0,
    mean_images: MeanImages | None = None,
    seed: int = 0,
) -> Channels:
    """Which of the backbone's channels were observed, in the order of the observed ones: int64 (D',).

    ``observed``: what an encoder sent for some images, float (n, D', h, w). ``backbone_features``: all
    channels on other images, which may be of another domain, float (m, D, h, w), without noise and not
    quantised. ``noise_std`` is that of the encoder; whether it quantises shows in the values.
    """
    return match_channels(
        observed, backbone_features, noise_std=noise_std, mean_images=mean_images, seed=seed
    ).channels


def match_channels(
    observed: NDArray[Any],
    backbone_features: NDArray[Any],
    *,
    noise_std: float = 0.0,
    mean_images: MeanImages | None = None,
    seed: int = 0,
) -> Match:
    """As ``find_channels``, with the cost."""
    sent = Transmission.seen_in(observed, noise_std).apply(backbone_features, np.random.default_rng(seed))
    return match(observed, Candidates(sent, len(observed), seed, mean_images))


def match(observed: NDArray[Any], candidates: Candidates) -> Match:
    """Match observed channels to candidates whose features underwent what the observed ones did."""
    seen = np.asarray(observed, np.float32)
    description = candidates.describe(seen)
    correlations = pair_correlations(seen)
    inflation = np.ones(description.shape[1])
    costs = _unary(description, candidates, inflation)
    found = _assign(costs)
    for turn in range(_TURNS):
        # What moves all channels alike is the domain's doing.
        shift = (description - candidates.whitened[found]).sum(axis=0) / (len(found) + _SHIFT_SHRINKAGE)
        trust = _trust(costs, found)
        # Where matches lie further apart than the groups did, the domains differ more: that counts less.
        residual = np.square(description - shift - candidates.whitened[found]).sum(axis=0)
        inflation = np.maximum(1, (_PRIOR_CHANNELS + residual) / (_PRIOR_CHANNELS + len(found)))
        costs = _unary(description - shift, candidates, inflation)
        costs = costs + min(1.0, (turn + 1) / _RISE) * _pairwise(correlations, candidates, found, trust)
        before, found = found, _assign(costs)
        if turn >= _RISE and np.array_equal(before, found):
            break
    rows = np.arange(len(found))
    cost = float(costs[rows, found].mean())
    # Domains further apart than the groups make costs, and their differences, larger than they mean; and few
    # channels show little of how the domains differ.
    doubt = max(1.0, cost / candidates.usual_cost) * (1 + _PRIOR_CHANNELS / len(found))
    likely = np.exp((costs.min(axis=1, keepdims=True) - costs) / (2 * doubt))
    return Match(found, cost, likely / likely.sum(axis=1, keepdims=True))


def _assign(costs: Floats) -> Channels:
    from scipy.optimize import linear_sum_assignment

    return np.asarray(linear_sum_assignment(costs)[1], np.int64)


def _unary(description: Floats, candidates: Candidates, inflation: Floats) -> Floats:
    """Squared distances between observed channels and candidates in the metric, (D', D)."""
    ours, theirs = description / np.sqrt(inflation), candidates.whitened / np.sqrt(inflation)
    squared = np.square(ours).sum(axis=1)[:, None] + np.square(theirs).sum(axis=1)
    return np.asarray((squared - 2 * ours @ theirs.T) / candidates.unary_scale, np.float64)


def _pairwise(observed: list[Floats], candidates: Candidates, found: Channels, trust: Floats) -> Floats:
    """How badly candidates' correlations with the partners found so far fit the observed ones, (D', D)."""
    others = (1 - np.eye(len(found))) * trust
    total = np.zeros((len(found), len(candidates.whitened)))
    for offset, (seen, whole, variance) in enumerate(
        zip(observed, candidates.correlations, candidates.variances, strict=True)
    ):
        # Between neighbours the correlation of i with j is not that of j with i.
        sides = [(seen, whole, variance)] + ([(seen.T, whole.T, variance.T)] if offset else [])
        for ours, theirs, spread in sides:
            precision = 1 / spread[:, found]
            partners = theirs[:, found]
            total += (
                (ours**2 * others) @ precision.T
                - 2 * (ours * others) @ (partners * precision).T
                + others @ (partners**2 * precision).T
            ) / len(sides)
    return _PAIR_WEIGHT * total / (candidates.pair_scale * max(1, len(found) - 1))


def _trust(costs: Floats, found: Channels) -> Floats:
    """Weights about one of the matches, (D',): small where another candidate costs hardly more."""
    rows = np.arange(len(found))
    rest = costs.copy()
    rest[rows, found] = np.inf
    margin = np.clip(rest.min(axis=1) - costs[rows, found], -30, 30)
    sure = 1 / (1 + np.exp(-margin / _TRUST))
    return np.asarray(sure / sure.mean(), np.float64)


def _whitening(moved: Floats, description: Floats) -> Floats:
    """W with which differences d between groups have covariance one: W W' is the shrunk precision."""
    covariance = moved.T @ moved / len(moved)
    floor = _SHARE_OF_BETWEEN * description.var(axis=0) + 1e-6
    covariance = 0.8 * covariance + np.diag(0.2 * np.diag(covariance) + floor)
    return np.asarray(np.linalg.cholesky(np.linalg.inv(covariance)), np.float64)


def _tempering(squares: Floats) -> float:
    """What sums of dependent squares are divided by to spread as a chi-squared does (Satterthwaite 1946)."""
    return max(float(squares.var() / (2 * squares.mean())) if squares.mean() > 0 else 1.0, 1e-9)
