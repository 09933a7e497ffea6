"""What a device profile may say: every figure with its unit, source and kind, every limit with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from ..latency import LatencyPrediction
from ..metrics import METRICS
from .figures import Amount, Count, NonNegative, Positive, Section, Text, failure
from .latency_model import LatencyModel, Precision

if TYPE_CHECKING:
    from ...encoders import Costs

SCHEMA_VERSION = 2
NAME_PATTERN = r"^[a-z0-9][a-z0-9.-]*$"


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


class DeviceProfile(Section):
    """A target: what it is, what an encoder may spend and leak on it, and how fast it is.

    Read one with :func:`privynet.device_profiles.load_profile`. ``limits`` maps metric names to upper limits.
    """

    schema_version: Literal[2]
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
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
        if threads is not None and int(threads.value) not in latency.threads_known():
            raise failure(f"no entry for the profile's {threads.value:g} threads", at="float32")
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
        return self.latency.table(threads=self.threads).median_error.value

    @property
    def least_latency_ms(self) -> float:
        """The upper end of the predicted time of a network that computes nothing: what a run costs anyway."""
        return self.latency.predict((), threads=self.threads).high

    def predict_latency_ms(
        self, costs: Costs, *, threads: int | None = None, precision: Precision = "float32"
    ) -> LatencyPrediction:
        """Predicted time of one image, batch 1, on the profile's threads unless ``threads`` says otherwise.

        Raises :class:`InputError` for a thread count or precision that the profile has no figures for.
        """
        return self.latency.predict(
            costs.kernels, threads=self.threads if threads is None else threads, precision=precision
        )

    def document(self) -> dict[str, Any]:
        """The profile as it stands in its file: what is not set is not there."""
        document = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        document["latency"] = {key: value for key, value in document["latency"].items() if value}
        return document
