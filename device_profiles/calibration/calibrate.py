"""Measures how long kernels take on a target, and makes a device profile of it."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError, PrivynetError
from ...progress import SILENT, Progress, Task
from ..costs import model_costs
from ..latency import Fit, fit_latency, fit_scaling
from ..measuring import Flag, PackResult, read_machine, run_pack, usable_cores
from ..profiles import DeviceProfile, Precision, check_name, load_profile
from ..targets import Target, open_target
from .made_profile import check_memory, error_figures, make_profile
from .micro_models import micro_models
from .quantising import quantised

if TYPE_CHECKING:
    import onnx

    from ...encoders import Kernel

SECONDS = 110.0
"""What the timing takes in all for a precision; copying and fitting come to it."""
LEAST_AGREEMENT = 0.6
"""Where fewer of the networks take the same in both rounds, the target was busy."""
LEAST_MODELS = 60
"""Fewer cannot tell the kinds of work apart."""
_MOST_SECONDS = 3600.0
_MOST_THREADS = 4


@dataclass(frozen=True)
class Fitted:
    """A fit, and the times in milliseconds that it is of, by micro-model, in the order of its ratios."""

    fit: Fit
    times_ms: Mapping[str, float]


@dataclass(frozen=True)
class Calibration:
    """A profile, and by precision and thread count the fits that its latency model is made of, and the share
    of the micro-models that took the same in both rounds, within 10 %; ``None`` where there was no second."""

    profile: DeviceProfile
    fitted: Mapping[Precision, Mapping[int, Fitted]]
    agreement: Mapping[Precision, Mapping[int, float | None]]

    @property
    def busy(self) -> str | None:
        """What to say of a target that did something else meanwhile: its figures are not to be relied on."""
        shares = [share for by_threads in self.agreement.values() for share in by_threads.values()]
        least = min((share for share in shares if share is not None), default=1.0)
        if least >= LEAST_AGREEMENT:
            return None
        return f"the target was busy: only {least:.0%} of the networks took the same twice, within 10 %"

    def document(self) -> dict[str, Any]:
        """``valid``, ``flags`` as of :func:`privynet.device_profiles.bench`, ``profile``, and ``error``:
        {precision: {threads: {``median``, ``p90``, ``max``, ``within_10_percent``, ``n``,
        ``rounds_agree``}}} of predictions for micro-models that the fit had not seen."""
        flags = [Flag("busy", True, self.busy)] if self.busy else []
        return {
            "valid": not flags,
            "flags": [asdict(flag) for flag in flags],
            "profile": self.profile.document(),
            "error": {
                precision: {
                    str(threads): {
                        **error_figures(one.fit),
                        "rounds_agree": self.agreement[precision][threads],
                    }
                    for threads, one in fitted.items()
                }
                for precision, fitted in self.fitted.items()
            },
        }


def calibrate(
    *,
    name: str,
    on: str = "local",
    threads: Sequence[int] = (),
    like: str | None = None,
    int8: bool = False,
    seconds: float = SECONDS,
    python: str | None = None,
    accept_new_host_key: bool = False,
    progress: Progress = SILENT,
) -> Calibration:
    """Time the pack of micro-models on a target and fit its latency model.

    There is a table for the fewest threads; for other thread counts, how those times scale.

    ``threads``: default 1 and those of ``like``, or as many as the target has cores, up to four. ``like``: a
    profile whose class, threads and limits the new one takes over; without it the profile has no limits.
    ``int8``: time the pack quantised too. ``on``, ``python``, ``accept_new_host_key``: as
    :func:`privynet.device_profiles.targets.open_target`. ``seconds`` are for all timing in a precision.

    Raises :class:`InputError` for what is out of range or not understood; :class:`PrivynetError` when the
    target cannot be reached, lacks what is needed, fails, or times fewer than 60 models in that time.
    """
    if not 0 < seconds <= _MOST_SECONDS:
        raise InputError(
            f"seconds is {seconds:g}", hint=f"give more than 0, at most {_MOST_SECONDS:g}: more tells no more"
        )
    check_name(name)
    if min(threads, default=1) < 1:
        raise InputError(f"threads is {min(threads)}", hint="give at least 1")
    model = load_profile(like) if like is not None else None
    models = {one.name: one.model for one in micro_models()}
    # A quantised network is predicted by the work of the one that it was made of.
    kernels = {name: model_costs(one, name=name).kernels for name, one in models.items()}
    precisions: tuple[Precision, ...] = ("float32", "int8") if int8 else ("float32",)
    timed: dict[Precision, dict[int, PackResult]] = {}
    with (
        open_target(on, python=python, accept_new_host_key=accept_new_host_key) as target,
        progress.task(f"timing {len(models)} models", float(len(precisions))) as task,
    ):
        machine = read_machine(target)
        check_memory(machine, model)
        counts = _thread_counts(threads, model, cores=usable_cores(machine))
        for precision in precisions:
            pack = {name: quantised(one) for name, one in models.items()} if precision == "int8" else models
            timed[precision] = _time(pack, target, counts=counts, seconds=seconds, task=task)
    fitted = {
        precision: fit_all(kernels, {count: result.medians_ms for count, result in results.items()})
        for precision, results in timed.items()
    }
    fits = {
        precision: {count: one.fit for count, one in found.items()} for precision, found in fitted.items()
    }
    return Calibration(
        make_profile(name, on, model, timed["float32"], fits),
        fitted,
        {
            precision: {count: result.agreement for count, result in results.items()}
            for precision, results in timed.items()
        },
    )


def _thread_counts(asked: Sequence[int], like: DeviceProfile | None, *, cores: int) -> list[int]:
    """Ascending. Raises :class:`InputError` for more than there are cores."""
    usual = like.threads if like is not None else min(_MOST_THREADS, cores)
    counts = sorted(set(asked or (1, usual)))
    if counts[-1] > cores:
        told = f"{counts[-1]} threads on {cores} cores"
        raise InputError(told, hint=f"give at most {cores}" if asked else f"give --threads, at most {cores}")
    return counts


def fit_all(
    kernels: Mapping[str, Sequence[Kernel]], times_ms: Mapping[int, Mapping[str, float]]
) -> dict[int, Fitted]:
    """A fit for each thread count: of the times on the fewest, and of how the others follow from them.

    ``kernels`` are those of the networks by name, ``times_ms`` their times by thread count and name.
    """
    fewest, *more = sorted(times_ms)
    alone = times_ms[fewest]
    first = fit_latency([kernels[name] for name in alone], list(alone.values()))
    fitted = {fewest: Fitted(first, alone)}
    for threads in more:
        both = {name: ms for name, ms in times_ms[threads].items() if name in alone}
        scaling = fit_scaling(
            [kernels[name] for name in both],
            list(both.values()),
            [alone[name] for name in both],
            fewest=first,
        )
        fitted[threads] = Fitted(scaling, both)
    return fitted


def _time(
    pack: Mapping[str, onnx.ModelProto], target: Target, *, counts: Sequence[int], seconds: float, task: Task
) -> dict[int, PackResult]:
    """What the pack took, by thread count."""
    timed: dict[int, PackResult] = {}
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "pack.zip"
        _write(pack, archive)
        for count in counts:
            share = seconds / len(counts)
            timed[count] = _time_once(archive, target, threads=count, seconds=share, task=task)
            task.advance(1 / len(counts))
    return timed


def _write(pack: Mapping[str, onnx.ModelProto], path: Path) -> None:
    """An archive of the models in an order by chance, so that any part of it is a fair sample."""
    names = list(pack)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for place in np.random.default_rng(0).permutation(len(names)):
            name = names[place]
            archive.writestr(name, pack[name].SerializeToString(deterministic=True))


def _time_once(archive: Path, target: Target, *, threads: int, seconds: float, task: Task) -> PackResult:
    result = run_pack(
        archive,
        threads=threads,
        seconds=seconds,
        target=target,
        on_running=lambda models, passed: task.advance(
            0, note=f"threads: {threads}, {models} models, {passed:.0f} of {seconds:.0f} s"
        ),
    )
    found = len(result.medians_ms)
    if found < LEAST_MODELS:
        raise PrivynetError(
            f"{found} models were timed in {seconds:.0f} s, at least {LEAST_MODELS} are needed",
            hint="give more --seconds",
        )
    return result
