"""What a device profile may say: every figure with its unit, source and kind, every limit with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ...errors import InputError
from ..latency import KernelFeatures, LatencyPrediction
from ..metrics import METRICS, check_limit

if TYPE_CHECKING:
    from ...encoders import Costs

SCHEMA_VERSION = 1

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Kind = Literal["measured", "published", "estimated"]
# Strict, so that neither "4" nor true passes for a number; integers still do.
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]


class Section(BaseModel):
    """Frozen, and closed: a key that is not known is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(Section):
    """A number that can be traced: where it comes from, and whether anyone measured it."""

    value: NonNegative
    unit: Text
    source: Text
    kind: Kind


class Spread(Figure):
    """A figure with the interval it is expected in."""

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Spread:
        if not self.low <= self.value <= self.high:
            raise PydanticCustomError("order", "low <= value <= high does not hold")
        return self


_F = TypeVar("_F", bound=Figure)


def _in(unit: str, *, positive: bool = True, whole: bool = False) -> Callable[[_F], _F]:
    """A check of a figure's unit, and of its value where zero or a fraction makes no sense."""

    def check(figure: _F) -> _F:
        if figure.unit != unit:
            raise PydanticCustomError(
                "unit",
                "unit {given} is not allowed, give it in {unit}",
                {"given": figure.unit, "unit": unit},
            )
        if positive and figure.value == 0:
            raise PydanticCustomError("zero", "the value must be more than zero")
        if whole and figure.value != math.floor(figure.value):
            raise PydanticCustomError("whole", "the value must be a whole number")
        return figure

    return check


PerGmac = Annotated[Figure, AfterValidator(_in("ms/GMAC", positive=False))]
Milliseconds = Annotated[Figure, AfterValidator(_in("ms", positive=False))]
Fraction = Annotated[Figure, AfterValidator(_in("1", positive=False))]
Ratio = Annotated[Spread, AfterValidator(_in("1"))]


class Limit(Section):
    """The most the target may spend or leak, in the metric's own unit, and why."""

    value: NonNegative
    reason: Text


class Coefficients(Section):
    """Time per unit of work at scale 1; their ratios are shared by all devices of a core family."""

    conv3x3s1: PerGmac
    dense: PerGmac
    depthwise: PerGmac
    linear: Annotated[Figure, AfterValidator(_in("ms/Mweight", positive=False))]
    activations: Annotated[Figure, AfterValidator(_in("ms/Melement", positive=False))]

    def values(self) -> tuple[float, float, float, float, float]:
        """In the order of :meth:`KernelFeatures.work`."""
        return (
            self.conv3x3s1.value,
            self.dense.value,
            self.depthwise.value,
            self.linear.value,
            self.activations.value,
        )


class LatencyModel(Section):
    """Time in the published runtime, and the factor from there to the runtime that the profile is for.

    ``model_factor`` is the interval of measured over predicted time of networks that the fit had not seen;
    ``median_error`` and ``max_error`` are the relative errors of the same predictions.
    """

    core_family: Text
    coefficients: Coefficients
    per_run_overhead: Milliseconds
    per_kernel_overhead: Milliseconds
    scales: dict[
        Annotated[str, Field(pattern=r"^[1-9][0-9]*$")], Annotated[Figure, AfterValidator(_in("1"))]
    ] = Field(min_length=1)
    median_error: Fraction
    max_error: Fraction
    model_factor: Ratio
    runtime_factor: Ratio

    def predict(self, features: KernelFeatures, *, threads: int) -> LatencyPrediction:
        """Predicted time at a thread count that has a scale."""
        work = sum(c * f for c, f in zip(self.coefficients.values(), features.work(), strict=True))
        ms = self.scales[str(threads)].value * work
        ms += self.per_run_overhead.value + self.per_kernel_overhead.value * features.kernels
        model, runtime = self.model_factor, self.runtime_factor
        return LatencyPrediction(
            ms=ms * model.value * runtime.value,
            low=ms * model.low * runtime.low,
            high=ms * model.high * runtime.high,
        )


class DeviceProfile(Section):
    """A target: what it is, what an encoder may spend and leak on it, and how fast it is.

    Read one with :func:`privynet.device_profiles.load_profile`. ``limits`` maps metric names to upper limits.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: Text
    device_class: Literal["board", "phone"] = Field(alias="class")
    core_type: Text
    runtime: Text
    cores_figure: Annotated[Figure, AfterValidator(_in("cores", whole=True))] = Field(alias="cores")
    memory_figure: Annotated[Figure, AfterValidator(_in("MB"))] = Field(alias="memory_mb")
    threads_figure: Annotated[Figure, AfterValidator(_in("threads", whole=True))] = Field(alias="threads")
    limit_entries: dict[str, Limit] = Field(alias="limits", default_factory=dict)
    latency: LatencyModel

    @field_validator("limit_entries")
    @classmethod
    def _known_metrics(cls, entries: dict[str, Limit]) -> dict[str, Limit]:
        for metric, entry in entries.items():
            try:
                check_limit(metric, entry.value)
            except InputError as error:
                code = "limit" if metric in METRICS else "metric"
                raise PydanticCustomError(code, "{text}", {"text": str(error), "metric": metric}) from None
        return entries

    @model_validator(mode="after")
    def _consistent(self) -> DeviceProfile:
        if self.threads > self.cores:
            raise PydanticCustomError("threads", "more threads than cores", {"key": "threads"})
        if str(self.threads) not in self.latency.scales:
            raise PydanticCustomError(
                "scale",
                "no entry for the profile's {threads} threads",
                {"threads": self.threads, "key": "latency.scales"},
            )
        return self

    @property
    def cores(self) -> int:
        """CPU cores."""
        return int(self.cores_figure.value)

    @property
    def memory_mb(self) -> float:
        """Main memory in MB."""
        return self.memory_figure.value

    @property
    def threads(self) -> int:
        """The threads an encoder runs with on this target, and is predicted and checked for."""
        return int(self.threads_figure.value)

    @property
    def limits(self) -> dict[str, float]:
        """Upper limits by metric name."""
        return {metric: entry.value for metric, entry in self.limit_entries.items()}

    @property
    def limit_reasons(self) -> dict[str, str]:
        """Why each limit is what it is, by metric name."""
        return {metric: entry.reason for metric, entry in self.limit_entries.items()}

    def predict_latency_ms(self, costs: Costs, *, threads: int | None = None) -> LatencyPrediction:
        """Predicted time of one image, batch 1, on the profile's threads unless ``threads`` says otherwise.

        Raises :class:`InputError` for a thread count the profile has no figures for.
        """
        count = self.threads if threads is None else threads
        if str(count) not in self.latency.scales:
            known = ", ".join(sorted(self.latency.scales, key=int))
            raise InputError(
                f"{self.name} has no latency figures for {count} threads", hint=f"known: {known}"
            )
        return self.latency.predict(KernelFeatures.of(costs.kernels), threads=count)

    def document(self) -> dict[str, Any]:
        """The profile as it stands in its file, for ``--json``."""
        return self.model_dump(by_alias=True)
