"""What a device profile may say: every figure with its unit, source and kind, every limit with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypeVar

from ...errors import InputError
from ..latency import KernelFeatures, LatencyPrediction
from ..metrics import METRICS

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


Unit = TypeVar("Unit", bound=str, default=str)


class Figure(Section, Generic[Unit]):
    """A number that can be traced: where it comes from, and whether anyone measured it.

    ``Figure[Literal["ms"]]`` is one in that unit, zero allowed.
    """

    value: NonNegative
    unit: Unit
    source: Text
    kind: Kind


class Amount(Figure[Unit], Generic[Unit]):
    """A figure for which zero makes no sense."""

    value: Positive


class Count(Figure[Unit], Generic[Unit]):
    """A figure that counts: a whole number, one or more."""

    value: Annotated[Positive, Field(multiple_of=1)]


class Spread(Figure[Unit], Generic[Unit]):
    """A figure with the interval it is expected in."""

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Spread[Unit]:
        if not self.low <= self.value <= self.high:
            raise failure("low <= value <= high does not hold", at="value")
        return self


def failure(message: str, *, at: str | None = None) -> PydanticCustomError:
    """What a validator raises; ``at`` is the key that is to blame, in what the validator is for."""
    return PydanticCustomError("profile", "{text}", {"text": message, "at": at})


def _in(unit: str, *, positive: bool = True) -> Callable[[Figure], Figure]:
    """A check of a figure's unit, for a figure whose type does not say it."""

    def check(figure: Figure) -> Figure:
        if figure.unit != unit:
            raise failure(f"unit {figure.unit} is not allowed, give it in {unit}", at="unit")
        if positive and figure.value == 0:
            raise failure("must be more than zero", at="value")
        return figure

    return check


PerGmac = Figure[Literal["ms/GMAC"]]
Milliseconds = Figure[Literal["ms"]]
Fraction = Figure[Literal["1"]]
Ratio = Spread[Literal["1"]]


class Limit(Section):
    """The most the target may spend, in the metric's own unit, and why."""

    value: Positive
    reason: Text


class PrivacyLimit(Section):
    """The most that may leak, in the metric's own unit, and why; it may be nothing at all."""

    value: NonNegative
    reason: Text


class ProfileLimits(Section):
    """Upper limits by metric: each of the nine may be there or not."""

    macs: Limit | None = None
    weights_kb: Limit | None = None
    peak_ram_kb: Limit | None = None
    storage_kb: Limit | None = None
    latency_ms: Limit | None = None
    payload_bytes: Limit | None = None
    psnr_db: PrivacyLimit | None = None
    ssim: PrivacyLimit | None = None
    r2: PrivacyLimit | None = None

    def entries(self) -> dict[str, Limit | PrivacyLimit]:
        """Those that are set, by metric, in the metrics' order."""
        found = {metric: getattr(self, metric) for metric in METRICS}
        return {metric: entry for metric, entry in found.items() if entry is not None}


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
    cores_figure: Count[Literal["cores"]] = Field(alias="cores")
    memory_figure: Amount[Literal["MB"]] = Field(alias="memory_mb")
    threads_figure: Count[Literal["threads"]] = Field(alias="threads")
    limit_entries: ProfileLimits = Field(alias="limits", default_factory=ProfileLimits)
    latency: LatencyModel

    @field_validator("schema_version", mode="before")
    @classmethod
    def _is_a_whole_number(cls, version: object) -> object:
        if type(version) is not int:  # true would pass for 1
            raise failure(f"must be {SCHEMA_VERSION}, not {version!r}")
        return version

    # Checks of one key against another look at what was read before it, so that they are not left out when
    # something else is wrong.
    @field_validator("threads_figure")
    @classmethod
    def _no_more_threads_than_cores(
        cls, threads: Count[Literal["threads"]], read: ValidationInfo
    ) -> Count[Literal["threads"]]:
        cores = read.data.get("cores_figure")
        if cores is not None and threads.value > cores.value:
            raise failure(f"more threads than cores ({cores.value:g})", at="value")
        return threads

    @field_validator("latency")
    @classmethod
    def _knows_the_threads(cls, latency: LatencyModel, read: ValidationInfo) -> LatencyModel:
        threads = read.data.get("threads_figure")
        if threads is not None and str(int(threads.value)) not in latency.scales:
            raise failure(f"no entry for the profile's {threads.value:g} threads", at="scales")
        return latency

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
        return {metric: entry.value for metric, entry in self.limit_entries.entries().items()}

    @property
    def limit_reasons(self) -> dict[str, str]:
        """Why each limit is what it is, by metric name."""
        return {metric: entry.reason for metric, entry in self.limit_entries.entries().items()}

    @property
    def latency_error(self) -> float:
        """The median relative error of predictions for networks that the latency model had not seen."""
        return self.latency.median_error.value

    @property
    def least_latency_ms(self) -> float:
        """The upper end of the predicted time of a network that computes nothing: what a run costs anyway."""
        return self.latency.predict(KernelFeatures.of(()), threads=self.threads).high

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
        """The profile as it stands in its file: what is not set is not there."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
