"""The latency model as a profile has it: a table of coefficients for each precision and thread count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from ...errors import InputError
from ..latency import FEATURES, SCALING, LatencyPrediction, features_of, scaled_times
from .figures import Count, Figure, Section, Spread, Text, failure

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

    ``channel_block``: convolutions work on whole blocks of so many channels.
    ``model_factor`` is the interval of measured over predicted time of networks that the fit had not seen;
    ``median_error``, ``p90_error`` and ``max_error`` are the relative errors of the same predictions.
    """

    channel_block: Count[Literal["channels"]] | None = None
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
    activations_over_500kb: _PerMelement | None = None
    image: _PerMelement | None = None
    elementwise: _PerMelement | None = None
    bounded: _PerMelement | None = None
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
        return _set(self, FEATURES)

    def work(self, kernels: Iterable[Kernel]) -> dict[str, float]:
        """What the coefficients are for."""
        return features_of(kernels, channel_block=self.block)

    @property
    def block(self) -> int:
        """``channel_block``, 1 where it is not set."""
        return int(self.channel_block.value) if self.channel_block else 1


class ThreadScaling(Section):
    """Time on several threads from that on the fewest, for one precision; what is left out takes none.

    Up to ``start`` a kernel gains nothing from more threads. The others are as those of :class:`KernelTimes`.
    """

    start: _Milliseconds
    per_run_overhead: _Milliseconds | None = None
    per_kernel_overhead: _Milliseconds | None = None
    per_small_kernel_overhead: _Milliseconds | None = None
    per_reorder_overhead: _Milliseconds | None = None
    convolutions_start: _Fraction | None = None
    convolutions_rest: _Fraction | None = None
    others_start: _Fraction | None = None
    others_rest: _Fraction | None = None
    memory: _Fraction | None = None
    median_error: _Fraction
    p90_error: _Fraction
    max_error: _Fraction
    model_factor: Spread[Literal["1"]]

    def coefficients(self) -> dict[str, Figure]:
        """Those that are set, by name."""
        return _set(self, SCALING)

    def work(self, kernels: Iterable[Kernel], fewest: KernelTimes) -> dict[str, float]:
        """What the coefficients are for, ``fewest`` being the times that they scale."""
        alone = {name: figure.value for name, figure in fewest.coefficients().items()}
        return scaled_times(kernels, alone, channel_block=fewest.block, start_ms=self.start.value)


def _set(section: Section, names: Iterable[str]) -> dict[str, Figure]:
    found = {name: getattr(section, name) for name in names}
    return {name: figure for name, figure in found.items() if figure is not None}


_Threads = Annotated[str, Field(pattern=r"^[1-9][0-9]*$")]


class LatencyModel(Section):
    """How long kernels take on the target; ``runtime_factor`` where they were timed in another runtime.

    ``float32_scaling`` and ``int8_scaling`` tell the times on more threads than there are tables for from the
    table of the fewest.
    """

    core_family: Text
    runtime_factor: Spread[Literal["1"]] | None = None
    float32: dict[_Threads, KernelTimes] = Field(min_length=1)
    float32_scaling: dict[_Threads, ThreadScaling] = Field(default_factory=dict)
    int8: dict[_Threads, KernelTimes] = Field(default_factory=dict)
    int8_scaling: dict[_Threads, ThreadScaling] = Field(default_factory=dict)

    @field_validator("float32_scaling", "int8_scaling")
    @classmethod
    def _scales_what_is_there(
        cls, scaling: dict[str, ThreadScaling], read: ValidationInfo
    ) -> dict[str, ThreadScaling]:
        tables = read.data.get(str(read.field_name).removesuffix("_scaling"))
        for threads in scaling if tables is not None else ():
            if not tables:
                raise failure("there is no table whose times it scales")
            if threads in tables or int(threads) < min(map(int, tables)):
                least = min(tables, key=int)
                raise failure(
                    f"must be more than the {least} threads that it scales, without a table of its own",
                    at=threads,
                )
        return scaling

    def threads_known(self, precision: Precision = "float32") -> tuple[int, ...]:
        """The thread counts that there are figures for, ascending."""
        tables: dict[str, Any] = {**getattr(self, precision), **getattr(self, f"{precision}_scaling")}
        return tuple(sorted(map(int, tables)))

    def table(self, *, threads: int, precision: Precision = "float32") -> KernelTimes | ThreadScaling:
        """The figures for so many threads, with the errors of their predictions.

        Raises :class:`InputError` when there are none.
        """
        tables: dict[str, KernelTimes | ThreadScaling] = {
            **getattr(self, precision),
            **getattr(self, f"{precision}_scaling"),
        }
        if str(threads) not in tables:
            known = ", ".join(map(str, self.threads_known(precision))) or "none"
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
        table = self.table(threads=threads, precision=precision)
        figures = table.coefficients()
        if isinstance(table, ThreadScaling):
            work = table.work(kernels, getattr(self, precision)[str(self.threads_known(precision)[0])])
        else:
            work = table.work(kernels)
        ms = sum(figure.value * work[name] for name, figure in figures.items())
        model, runtime = table.model_factor, self.runtime_factor
        value, low, high = (runtime.value, runtime.low, runtime.high) if runtime else (1.0, 1.0, 1.0)
        return LatencyPrediction(
            ms=ms * model.value * value,
            low=ms * model.low * low,
            high=ms * model.high * high,
            estimated=runtime is not None or any(one.kind != "measured" for one in figures.values()),
        )
