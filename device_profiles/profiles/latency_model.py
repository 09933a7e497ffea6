"""The latency model as a profile has it: a table of coefficients for each precision and thread count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from ...errors import InputError
from ..latency import FEATURES, LatencyPrediction, features_of
from .figures import Count, Figure, Section, Spread, Text

if TYPE_CHECKING:
    from ...encoders import Kernel

Precision: TypeAlias = Literal["float32", "int8"]

_Milliseconds = Figure[Literal["ms"]]
_PerGmac = Figure[Literal["ms/GMAC"]]
_PerMelement = Figure[Literal["ms/Melement"]]
_PerMweight = Figure[Literal["ms/Mweight"]]
_Fraction = Figure[Literal["1"]]


class KernelTimes(Section):
    """Time per unit of work, for one precision and thread count; what is left out takes none.

    ``model_factor`` is the interval of measured over predicted time of networks that the fit had not seen;
    ``median_error``, ``p90_error`` and ``max_error`` are the relative errors of the same predictions.
    """

    per_run_overhead: _Milliseconds | None = None
    per_kernel_overhead: _Milliseconds | None = None
    per_small_kernel_overhead: _Milliseconds | None = None
    per_reorder_overhead: _Milliseconds | None = None
    conv3x3s1: _PerGmac | None = None
    conv: _PerGmac | None = None
    pointwise: _PerGmac | None = None
    depthwise: _PerGmac | None = None
    grouped: _PerGmac | None = None
    linear: _PerGmac | None = None
    unblocked_depthwise: _PerGmac | None = None
    unblocked_grouped: _PerGmac | None = None
    border: _PerGmac | None = None
    border_depthwise: _PerGmac | None = None
    unfolded: _PerMelement | None = None
    unblocked_unfolded: _PerMelement | None = None
    weights: _PerMweight | None = None
    weights_over_1mb: _PerMweight | None = None
    weights_over_8mb: _PerMweight | None = None
    weights_over_32mb: _PerMweight | None = None
    activations: _PerMelement | None = None
    depthwise_activations: _PerMelement | None = None
    image: _PerMelement | None = None
    elementwise: _PerMelement | None = None
    activated: _PerMelement | None = None
    gated: _PerMelement | None = None
    pool: _PerMelement | None = None
    mean: _PerMelement | None = None
    move: _PerMelement | None = None
    reordered: _PerMelement | None = None
    median_error: _Fraction
    p90_error: _Fraction
    max_error: _Fraction
    model_factor: Spread[Literal["1"]]

    def coefficients(self) -> dict[str, Figure]:
        """Those that are set, by feature."""
        found = {name: getattr(self, name) for name in FEATURES}
        return {name: figure for name, figure in found.items() if figure is not None}


_Threads = Annotated[str, Field(pattern=r"^[1-9][0-9]*$")]


class LatencyModel(Section):
    """How long kernels take on the target; ``runtime_factor`` where they were timed in another runtime."""

    core_family: Text
    channel_block: Count[Literal["channels"]] | None = None
    runtime_factor: Spread[Literal["1"]] | None = None
    float32: dict[_Threads, KernelTimes] = Field(min_length=1)
    int8: dict[_Threads, KernelTimes] = Field(default_factory=dict)

    def times(self, *, threads: int, precision: Precision = "float32") -> KernelTimes:
        """Raises :class:`InputError` when there is no table for these."""
        tables: dict[str, KernelTimes] = getattr(self, precision)
        if str(threads) not in tables:
            known = ", ".join(sorted(tables, key=int)) or "none"
            raise InputError(
                f"there are no {precision} latency figures for {threads} threads", hint=f"known: {known}"
            )
        return tables[str(threads)]

    def predict(
        self, kernels: Iterable[Kernel], *, threads: int, precision: Precision = "float32"
    ) -> LatencyPrediction:
        """Predicted time of a network with these kernels.

        Raises :class:`InputError` for a thread count or precision without figures.
        """
        times = self.times(threads=threads, precision=precision)
        block = int(self.channel_block.value) if self.channel_block else 1
        work = features_of(kernels, channel_block=block)
        coefficients = times.coefficients()
        ms = sum(figure.value * work[name] for name, figure in coefficients.items())
        model, runtime = times.model_factor, self.runtime_factor
        value, low, high = (runtime.value, runtime.low, runtime.high) if runtime else (1.0, 1.0, 1.0)
        return LatencyPrediction(
            ms=ms * model.value * value,
            low=ms * model.low * low,
            high=ms * model.high * high,
            estimated=runtime is not None or any(one.kind != "measured" for one in coefficients.values()),
        )
