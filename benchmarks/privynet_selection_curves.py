"""From rows of accuracy and PSNR over channel counts to differences between policies, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from measured_rows import interval
from numpy.typing import NDArray

BASELINE = "fisher"
_RESAMPLES = 1000
_POINTS = 64
"""Of the common range over which a difference is averaged."""

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""PSNR (ascending) and accuracy (never falling) of a policy at one cut, each (k,)."""


def curve(psnr_db: Sequence[float], accuracy: Sequence[float]) -> Curve:
    """What a policy offers: at each PSNR the best accuracy of all counts that leak no more."""
    order = np.argsort(psnr_db, kind="stable")
    best = np.maximum.accumulate(np.asarray(accuracy, np.float64)[order])
    return np.asarray(psnr_db, np.float64)[order], best


def accuracy_gain(of: Curve, over: Curve) -> float:
    """Mean difference of accuracy at equal PSNR over the range that both cover; NaN where there is none."""
    return _mean_difference(of[0], of[1], over[0], over[1])


def psnr_gain(of: Curve, over: Curve) -> float:
    """Mean difference of PSNR at equal accuracy (below 0: it leaks less); NaN without a common range."""
    return _mean_difference(*_inverse(of), *_inverse(over))


def _inverse(of: Curve) -> Curve:
    """Accuracy (rising) and the least PSNR at which it is reached."""
    accuracy, first = np.unique(of[1], return_index=True)
    return accuracy, of[0][first]


def _mean_difference(*curves: NDArray[np.float64]) -> float:
    x, y, other_x, other_y = curves
    low, high = max(x[0], other_x[0]), min(x[-1], other_x[-1])
    if not low < high:
        return float("nan")
    points = np.linspace(low, high, _POINTS)
    return float(np.mean(np.interp(points, x, y) - np.interp(points, other_x, other_y)))


class Samples:
    """A cut's rows with their figures per image, so that policies can be compared on resampled images."""

    def __init__(self, rows: Sequence[dict[str, Any]], seed: int) -> None:
        self.rows = list(rows)
        self.psnr = np.array([row["image_psnr_db"].split() for row in self.rows], np.float64)
        n = self.rows[0]["accuracy"]["n"]
        packed = [np.frombuffer(bytes.fromhex(row["image_hits"]), np.uint8) for row in self.rows]
        self.hits = np.unpackbits(np.array(packed), axis=1, count=n).astype(np.float64)
        generator = np.random.default_rng(seed)
        self.weights = [
            generator.multinomial(count, np.full(count, 1 / count), _RESAMPLES) / count
            for count in (self.psnr.shape[1], n)
        ]

    def difference(self, policy: str, gain: Callable[[Curve, Curve], float]) -> NDArray[np.float64]:
        """``gain`` of a policy over the baseline, then on resampled images, (1 + resamples,); NaN where the
        two have no common range."""
        psnr = np.concatenate([self.psnr.mean(1)[:, None], self.psnr @ self.weights[0].T], axis=1)
        hits = np.concatenate([self.hits.mean(1)[:, None], self.hits @ self.weights[1].T], axis=1)
        return np.array(
            [
                gain(*(self._curve(name, psnr[:, draw], hits[:, draw]) for name in (policy, BASELINE)))
                for draw in range(psnr.shape[1])
            ]
        )

    def common(self, policy: str) -> tuple[float, float]:
        """The range of PSNR that a policy and the baseline both cover."""
        curves = [self._curve(name, self.psnr.mean(1), self.hits.mean(1))[0] for name in (policy, BASELINE)]
        return max(psnr[0] for psnr in curves), min(psnr[-1] for psnr in curves)

    def against(self, policy: str, attack: str) -> float:
        """``accuracy_gain`` where PSNR is that of one attack alone."""
        psnr = np.array([row["attacks"][attack]["psnr_db"] for row in self.rows])
        return accuracy_gain(*(self._curve(name, psnr, self.hits.mean(1)) for name in (policy, BASELINE)))

    def _curve(self, policy: str, psnr: NDArray[np.float64], accuracy: NDArray[np.float64]) -> Curve:
        """Draws of a secret count as one point, their mean."""
        points = []
        names = [label(row) if row["policy"] == policy else None for row in self.rows]
        for name in dict.fromkeys(name for name in names if name is not None):
            of = [index for index, other in enumerate(names) if other == name]
            points.append((psnr[of].mean(), accuracy[of].mean()))
        return curve(*zip(*points, strict=True))


def label(row: dict[str, Any]) -> str:
    """What a row is of, but for the cut and the secret."""
    return f"{row['policy']} {row['count']}"


def report(
    rows: Sequence[dict[str, Any]], *, policies: Sequence[str], attacks: Sequence[str], seed: int
) -> str:
    """The rows, then what each policy gains over Fisher's at each cut and averaged over the cuts."""
    lines = [f"{'cut':16} {'policy and count':28} {'PSNR, dB':20} {'accuracy':24} attacks, dB (s)"]
    cuts = list(dict.fromkeys(row["cut"] for row in rows))
    for row in sorted(
        rows,
        key=lambda row: (
            cuts.index(row["cut"]),
            policies.index(row["policy"]),
            row["count"],
            row["draw"],
        ),
    ):
        each = ", ".join(
            f"{name} {entry['psnr_db']:.1f} ({entry['seconds']:.0f})"
            for name, entry in row["attacks"].items()
        )
        lines.append(
            f"{row['cut']:16} {label(row):28} {interval(row['psnr_db'], '.1f'):20} "
            f"{interval(row['accuracy'], '.1%'):24} {each}; selection {row['seconds']['selection']:.1f} s"
        )
    gains: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    left: dict[tuple[str, str], list[float]] = {}
    for cut in cuts:
        of_cut = [row for row in rows if row["cut"] == cut]
        present = {row["policy"] for row in of_cut}
        if BASELINE not in present:
            continue
        samples = Samples(of_cut, seed)
        lines.append(f"\n{cut} against {BASELINE}:")
        for policy in (policy for policy in policies if policy in present and policy != BASELINE):
            accuracy = samples.difference(policy, accuracy_gain)
            psnr = samples.difference(policy, psnr_gain)
            gains.setdefault((policy, "accuracy"), []).append(accuracy)
            gains.setdefault((policy, "psnr"), []).append(psnr)
            low, high = samples.common(policy)
            alone = {attack: samples.against(policy, attack) for attack in attacks}
            for attack, value in alone.items():
                left.setdefault((policy, attack), []).append(value)
            lines.append(
                f"  {policy:12} {_points(accuracy)} points at equal PSNR ({low:.1f} to {high:.1f} dB), "
                f"{_db(psnr)} dB at equal accuracy; {_lost(accuracy, psnr)}by attack: "
                + ", ".join(f"{attack} {_plain(100 * value)}" for attack, value in alone.items())
            )
    if gains:
        lines.append("\nmean over the cuts at which both cover a common range:")
    for policy in (policy for policy in policies if (policy, "accuracy") in gains):
        cells = [_mean(gains[policy, what]) for what in ("accuracy", "psnr")]
        by_attack = ", ".join(
            f"{attack} {_plain(_known_mean(100 * values))}"
            for attack, values in ((attack, np.array(left[policy, attack])) for attack in attacks)
        )
        lines.append(
            f"  {policy:12} {_points(cells[0])} points at equal PSNR, {_db(cells[1])} dB at equal accuracy; "
            f"by attack: {by_attack}"
        )
    return "\n".join(lines)


def _mean(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Over the cuts that have a common range; all were resampled alike."""
    known = [value for value in values if not np.isnan(value[0])]
    return np.mean(known, axis=0) if known else values[0]


def _known_mean(values: NDArray[np.float64]) -> float:
    """Over what is not NaN; NaN where all is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _lost(*gains: NDArray[np.float64]) -> str:
    """Resamples without a common range are in no interval."""
    lost = max((int(np.isnan(gain[1:]).sum()) for gain in gains if not np.isnan(gain[0])), default=0)
    return f"{lost} of {_RESAMPLES} resamples without a common range; " if lost else ""


def _plain(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:+.1f}"


def _points(gains: NDArray[np.float64]) -> str:
    return _with_interval(100 * gains, ".1f")


def _db(gains: NDArray[np.float64]) -> str:
    return _with_interval(gains, ".2f")


def _with_interval(gains: NDArray[np.float64], spec: str) -> str:
    if np.isnan(gains[0]):
        return "-"
    low, high = np.nanpercentile(gains[1:], (2.5, 97.5))
    return f"{gains[0]:+{spec}} ({low:+{spec}}..{high:+{spec}})"
