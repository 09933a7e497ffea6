"""Measuring with onnxruntime_perf_test. None is released, so a script prints what its documentation shows."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from privynet.device_profiles import bench
from privynet.errors import InputError, PrivynetError

from .place import Place

PRINTED = """Setting intra_op_num_threads to 2
Session creation time cost: 0.0273071 s
First inference time cost: 20 ms
Total inference time cost: 6.14188 s
Total inference requests: 8
Average inference time cost: 17.735 ms
Total inference run time: 0.141991 s
Number of inferences per second: 56.3415 
Avg CPU usage: 98 %
Peak working set size: 35299328 bytes
Avg CPU usage:98
Peak working set size:35299328
Runs:8
Min Latency: 0.0159831 s
P999 Latency: 0.0232702 s
"""


def perf_test(folder: Path, *, milliseconds: int = 20, printed: str = PRINTED, then: str = "") -> Path:
    """It writes a run for each so many milliseconds of the time it is told, and its arguments beside them."""
    path = folder / "onnxruntime_perf_test"
    path.write_text(
        f"""#!/bin/sh
echo "$@" >>'{folder}/arguments'
{then}
while [ $# -gt 2 ]; do case $1 in -t) seconds=$2;; esac; shift; done
[ -f "$1" ] || exit 1
number=0
while [ $number -lt $((seconds * 1000 / {milliseconds})) ]; do
    echo "encoder,0.{milliseconds:03d},35299328,98,$number"; number=$((number + 1))
done >"$2"
echo >>"$2"; echo "P50 Latency is 0.0167086sec" >>"$2"
cat <<'END'
{printed}END
"""
    )
    path.chmod(0o755)
    return path


def test_its_runs_are_the_latencies_and_the_warm_up_is_not(place: Place, model: Path, tmp_path: Path) -> None:
    result = bench(model, on=place.url, perf_test=perf_test(tmp_path), threads=2, sessions=2, min_seconds=5)
    # 6 s of 20 ms, without the first half a second
    assert [session["latency_ms"]["n"] for session in result["sessions"]] == [275, 275]
    assert result["latency_ms"]["median"] == pytest.approx(20.0)
    assert result["load_ms"] == pytest.approx(27.3071)
    assert result["first_ms"] == pytest.approx(20.0)
    assert result["peak_rss_kb"] == 35299328 // 1024
    assert result["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert result["machine"]["program"] == "onnxruntime_perf_test"
    assert result["machine"]["cpus"] >= 1 and result["machine"]["architecture"]
    assert place.left() == []
    for line in (tmp_path / "arguments").read_text().splitlines():
        assert "-e cpu -I -S 1 -D -s -m duration -t 6 -x 2 -y 1 " in line


def test_what_it_does_not_tell_is_null(place: Place, model: Path, tmp_path: Path) -> None:
    result = bench(model, on=place.url, perf_test=perf_test(tmp_path), sessions=1, min_seconds=5)
    unknown = ("onnxruntime", "onnxruntime_build", "python", "affinity", "governors")
    assert all(result["machine"][name] is None for name in unknown)
    (session,) = result["sessions"]
    assert session["other_cores"] is None
    assert set(session["before"].values()) == set(session["after"].values()) == {None}


def test_a_slow_model_is_run_again_for_longer(here: Place, model: Path, tmp_path: Path) -> None:
    slow = perf_test(tmp_path, milliseconds=200)
    result = bench(model, perf_test=slow, sessions=1, min_seconds=5)
    assert result["latency_ms"]["n"] >= 100
    assert [
        line.split("-t ")[1].split()[0] for line in (tmp_path / "arguments").read_text().splitlines()
    ] == [
        "6",
        "23",
    ]


def test_a_library_beside_it_goes_with_it(place: Place, model: Path, tmp_path: Path) -> None:
    (tmp_path / "libonnxruntime.so.1").write_text("library")
    needs = '[ "$(cat "${LD_LIBRARY_PATH%%:*}"/libonnxruntime.so.1)" = library ] || exit 9'
    program = perf_test(tmp_path, then=needs)
    assert bench(model, on=place.url, perf_test=program, sessions=1)["latency_ms"]["n"] > 0


def test_the_processor_has_its_own_name_not_the_host_s(place: Place, model: Path, tmp_path: Path) -> None:
    result = bench(model, on=place.url, perf_test=perf_test(tmp_path), sessions=1)
    assert result["machine"]["processor"] == board_or_processor()


def board_or_processor() -> str | None:
    board = Path("/proc/device-tree/model")
    if board.exists():
        return board.read_text().rstrip("\0")
    named = re.search(r"(?m)^(?:model name|Hardware)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text())
    return named[1].strip() if named else None


@pytest.mark.parametrize(
    ("printed", "then", "kind", "match"),
    [
        ("", "", PrivynetError, "told no 'Session creation time cost'"),
        (
            PRINTED,
            "echo 'Load model from x failed: invalid' >&2; exit 255",
            InputError,
            "model cannot be timed: ",
        ),
        (PRINTED, "kill -9 $$", PrivynetError, "was ended by signal 9"),
        (PRINTED, "echo broken >&2; exit 7", PrivynetError, "ended with code 7 before its result: broken"),
        (PRINTED, f"cat <<'END'\n{PRINTED}END\nexit 0", PrivynetError, "told no runs"),
        (PRINTED.replace("6.14188", "1e999"), "", PrivynetError, "printed what is not its protocol"),
    ],
)
def test_what_goes_wrong_is_one_line(
    place: Place,
    model: Path,
    tmp_path: Path,
    printed: str,
    then: str,
    kind: type[PrivynetError],
    match: str,
) -> None:
    with pytest.raises(PrivynetError, match=match) as caught:
        bench(model, on=place.url, perf_test=perf_test(tmp_path, printed=printed, then=then), sessions=1)
    assert type(caught.value) is kind
    assert place.left() == []


def test_a_program_for_another_processor_is_one_line(place: Place, model: Path, tmp_path: Path) -> None:
    program = tmp_path / "onnxruntime_perf_test"
    program.write_bytes(b"\x7fELF\x01\x02\x01" + bytes(300))
    program.chmod(0o755)
    with pytest.raises(PrivynetError, match=r"ended with code \d+ before its result: ") as caught:
        bench(model, on=place.url, perf_test=program, sessions=1)
    assert "\n" not in str(caught.value)


def test_a_program_that_is_not_there_is_an_input_error(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*absent; give an onnxruntime_perf_test"):
        bench(model, perf_test=tmp_path / "absent")
