from __future__ import annotations

from typing import Any

import pytest

from privynet.device_profiles.measuring.sessions import Protocol, SessionResult
from privynet.device_profiles.measuring.validity import find_flags


def session_result(
    latencies: list[float],
    *,
    other_cores: float | None = 0.0,
    cpus: int = 4,
    affinity: list[int] | None = None,
    load: float | None = None,
    **fields: Any,
) -> SessionResult:
    return SessionResult(
        load_ms=1.0,
        first_ms=1.0,
        latencies_ms=latencies,
        timed_seconds=5.0,
        other_cores=other_cores,
        peak_rss_kb=1,
        model_sha256="",
        machine={"cpus": cpus, "affinity": affinity},
        before={"load_average": None if load is None else [load, 0.0, 0.0]},
        after={},
        **fields,
    )


def codes(results: list[SessionResult], *, threads: int = 1, protocol: Protocol | None = None) -> list[str]:
    return [flag.code for flag in find_flags(results, protocol or Protocol(), threads=threads)]


STEADY = [1.0, 1.02] * 100


def test_steady_sessions_are_valid() -> None:
    assert codes([session_result(STEADY) for _ in range(3)]) == []


def test_a_machine_at_rest_is_valid() -> None:
    """A desktop's own services, a little waiting, a turbo that moves a little, medians 3 % apart."""
    figures = {"other_cores": 0.3, "waited_share": 0.01, "load": 0.6}
    frequencies = [4.9e6, 4.7e6, 4.8e6, 4.6e6, 4.7e6, 4.5e6]
    sessions = [
        session_result([value * factor for value in STEADY], timed_frequencies_khz=frequencies, **figures)
        for factor in (1.0, 1.03, 1.01)
    ]
    assert codes(sessions) == []


def test_a_last_quarter_slower_by_more_than_a_tenth_is_throttling() -> None:
    assert codes([session_result([1.0] * 75 + [1.2] * 25)]) == ["throttling"]
    assert codes([session_result([1.0] * 75 + [1.05] * 25)]) == []


@pytest.mark.parametrize(("slower", "expected"), [(1.06, "throttling"), (1.0, "frequency-fell")])
def test_a_frequency_that_fell_is_throttling_when_runs_became_slower(slower: float, expected: str) -> None:
    falling = session_result(
        [1.0] * 75 + [slower] * 25, timed_frequencies_khz=[1.5e6, 1.5e6, 1.2e6, 1.2e6, 1.0e6]
    )
    (flag,) = find_flags([falling], Protocol(), threads=1)
    assert flag.code == expected
    assert flag.disqualifying == (expected == "throttling")
    assert "fell by 33%" in flag.message


def test_a_frequency_that_is_lower_in_a_later_session_is_seen() -> None:
    sessions = [session_result([1.0] * 100, timed_frequencies_khz=[1.5e6] * 8)]
    sessions.append(session_result([1.06] * 100, timed_frequencies_khz=[1.2e6] * 8))
    assert codes(sessions) == ["throttling"]


def test_too_few_runs_are_flagged() -> None:
    assert codes([session_result([1.0] * 99)]) == ["too-few-runs"]


def test_sessions_that_disagree_are_flagged() -> None:
    results = [session_result([1.0] * 100), session_result([1.2] * 100)]
    assert codes(results) == ["unstable-sessions"]


def test_work_of_other_processes_is_flagged_and_unknown_is_not() -> None:
    assert codes([session_result(STEADY, other_cores=1.5)]) == ["background-load"]
    assert codes([session_result(STEADY, other_cores=None)]) == []


@pytest.mark.parametrize("hidden", [{"waited_share": 0.3}, {"load": 2.5}])
def test_work_of_others_is_found_where_the_machine_does_not_show_it(hidden: dict[str, float]) -> None:
    assert codes([session_result(STEADY, other_cores=None, **hidden)]) == ["background-load"]


def test_a_load_average_counts_only_where_the_cores_in_use_are_unknown() -> None:
    assert codes([session_result(STEADY, other_cores=0.1, load=2.5)]) == []


def test_more_threads_than_cores_allowed_are_flagged() -> None:
    assert codes([session_result(STEADY, affinity=[0, 1])], threads=4) == ["oversubscribed"]


def test_shortened_sessions_are_told_but_do_not_disqualify() -> None:
    (flag,) = find_flags([session_result(STEADY)], Protocol(min_seconds=1), threads=1)
    assert flag.code == "short-sessions"
    assert not flag.disqualifying


def test_a_model_that_takes_several_images_is_told() -> None:
    described = [{"name": "images", "type": "tensor(uint8)", "shape": [8, 32, 32, 3]}]
    (flag,) = find_flags([session_result(STEADY, inputs=described)], Protocol(), threads=1)
    assert "8 images" in flag.message and not flag.disqualifying
