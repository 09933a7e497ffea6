"""The chain from a search to the end-to-end score: digits, few trials, a network of random weights."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import COMMAND, Outcome, run_process, tree

Run = Callable[..., Outcome]

SEARCH = (
    *("search", "--device", "raspberry-pi-zero-2w", "--data", "digits", "--backbone", "bundled"),
    *("--weights", "random", "--limit", "r2=0.9", "--pairs", "100", "--budget", "0.5"),
    *("--train-images", "200", "--input-size", "16", "--certify", "1", "--no-bench"),
    *("--policy", "fisher", "--policy", "random"),
    *("--insecure-fixed-secret", "--json"),
)
SCORE = {"value", "ci95", "n"}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A folder with ``run``, ``artifact``, ``shards`` and ``head``, and what each verb printed."""
    folder = tmp_path_factory.mktemp("chain")
    lines = {
        "search": [*SEARCH, "--trials", "4", "--out", "run"],
        "export": ["export", "run", "--weights", "random", "--out", "artifact", "--json"],
        "verify": ["verify", "artifact", "--weights", "random", "--json"],
        "encode": [
            "encode",
            "artifact",
            "--data",
            "digits",
            "--split",
            "head-train",
            "--out",
            "shards",
            "--json",
        ],
        "train-head": ["train-head", "shards", "--max-epochs", "4", "--out", "head", "--json"],
        "evaluate": ["evaluate", "artifact", "head", "--data", "digits", "--json"],
    }
    printed = {}
    for verb, line in lines.items():
        shown = run_process(line, cwd=folder)
        assert shown.code == 0, f"{verb}: {shown.err}"
        printed[verb] = shown.json
    return folder, printed


Chain = tuple[Path, dict[str, dict[str, Any]]]


def test_search_prints_the_encoder_and_how_far_it_uses_each_limit(chain: Chain) -> None:
    result = chain[1]["search"]
    assert {
        "encoder",
        "utility",
        "privacy_loss",
        "limits",
        "binding",
        "trials",
        "runners_up",
    } <= result.keys()
    assert result["utility"].keys() == {*SCORE, "metric", "heads"}
    assert result["privacy_loss"]["r2"].keys() == {*SCORE, "worst_decile", "attack"}
    assert {"total", "pruned", "evaluated", "feasible", "certified"} <= result["trials"].keys()
    assert result["trials"]["total"] == 4
    for limit in result["limits"].values():
        assert limit["value"] <= limit["limit"]
        assert limit["source"] in ("user", "profile", "default")
    assert result["limits"]["r2"] == {**result["limits"]["r2"], "limit": 0.9, "source": "user"}
    assert set(result["binding"]) <= set(result["limits"])


def test_every_result_names_its_versions_seed_and_inputs(chain: Chain) -> None:
    for result in chain[1].values():
        assert {"schema_version", "tool_version", "seed", "inputs"} <= result.keys()


def test_a_run_is_private(chain: Chain) -> None:
    run = chain[0] / "run"
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    for name in ("secret.json", "reconstructions.npz", "report.html"):
        assert stat.S_IMODE((run / name).stat().st_mode) == 0o600


def test_the_report_shows_the_run(chain: Chain) -> None:
    folder, printed = chain
    report = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert printed["search"]["report"] == "run/report.html"
    assert 'id="has-originals"' in report
    assert f"{100 * printed['search']['utility']['value']:.1f} %" in report
    assert printed["search"]["encoder"]["cut"] in report


def test_the_artifact_is_sound_and_its_parts_keep_their_digests(chain: Chain) -> None:
    exported, verified = chain[1]["export"], chain[1]["verify"]
    assert {"artifact", "files", "parity", "findings"} <= exported.keys() & verified.keys()
    assert verified["findings"] == []
    assert verified["files"] == exported["files"]
    assert verified["parity"]["max_abs_error"] < 1e-3


def test_shards_head_and_score_belong_to_the_encoder(chain: Chain) -> None:
    _, printed = chain
    encoded, trained, scored = printed["encode"], printed["train-head"], printed["evaluate"]
    assert encoded.keys() >= {"shards", "n", "encoder_digest"}
    assert encoded["encoder_digest"] == printed["search"]["encoder_digest"]
    assert trained["accuracy"].keys() == SCORE and trained["epochs"] <= 4
    assert scored["accuracy"].keys() == SCORE
    assert set(scored["per_class"]) == set("0123456789")
    assert scored["payload_bytes"] == printed["search"]["metrics"]["payload_bytes"]
    # ten classes: far better than guessing, even with random weights
    assert scored["accuracy"]["value"] > 0.3


def test_bench_measures_beside_the_prediction(chain: Chain, privynet: Run) -> None:
    device = ("--device", "raspberry-pi-zero-2w", "--threads", "4", "--seed", "7")
    shown = privynet("bench", chain[0] / "artifact", "--sessions", "1", *device, "--json")
    result = shown.json
    assert shown.code == (0 if result["valid"] else 3)
    assert {"min", "median", "p90", "iqr", "n"} <= result["latency_ms"].keys()
    assert {"peak_rss_kb", "load_ms", "machine", "flags"} <= result.keys()
    predicted, searched = result["predicted_ms"], chain[1]["search"]["predicted_ms"]
    assert [predicted[key] for key in ("value", "low", "high")] == pytest.approx(
        [searched[key] for key in ("ms", "low", "high")]
    )
    assert (predicted["threads"], result["limit_threads"]) == (4, 4)
    assert result["seed"] == 0  # of the inputs, whatever was asked for


def test_a_damaged_artifact_is_an_honest_negative(chain: Chain, privynet: Run, tmp_path: Path) -> None:
    import shutil

    damaged = shutil.copytree(chain[0] / "artifact", tmp_path / "damaged")
    with (damaged / "encoder.onnx").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\xff\x00\xff")
    shown = privynet("verify", damaged)
    assert shown.code == 3 and "encoder.onnx" in shown.error


def test_outputs_that_exist_are_refused(chain: Chain, privynet: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = chain
    monkeypatch.chdir(folder)
    before = tree(folder)
    for line in (
        ["export", "run", "--weights", "random", "--out", "artifact"],
        ["encode", "artifact", "--data", "digits", "--split", "test", "--out", "shards"],
        ["train-head", "shards", "--out", "head"],
        [*SEARCH, "--trials", "4", "--out", "run", "--seed", "1"],
    ):
        assert privynet(*line).code == 2
    assert tree(folder) == before


def test_the_same_search_on_its_own_run_answers_at_once(chain: Chain, privynet: Run) -> None:
    folder, printed = chain
    again = privynet(*SEARCH, "--trials", "4", "--out", folder / "run")
    assert again.code == 0
    same = ("encoder", "utility", "trials", "trial_table", "wall_s")
    assert [again.json[key] for key in same] == [printed["search"][key] for key in same]


def test_nothing_feasible_is_exit_code_3_with_the_nearest_misses(privynet: Run, tmp_path: Path) -> None:
    line = [text.replace("r2=0.9", "r2=0.0001") for text in SEARCH[:-1]]
    line += ["--trials", "2", "--out", str(tmp_path / "run")]
    shown = privynet(*line)
    assert shown.code == 3
    assert "nearest misses" in shown.out and "r2" in shown.out
    again = privynet(*line, "--json")
    assert again.code == 3
    assert again.json["encoder"] is None
    assert again.json["binding"]
    assert again.json["nearest"][0]["violated"]
    assert 'id="nothing"' in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_limits_that_no_cut_is_inside_are_told_before_anything_runs(privynet: Run, tmp_path: Path) -> None:
    shown = privynet(*SEARCH, "--trials", "2", "--limit", "macs=10", "--out", tmp_path / "run")
    assert shown.code == 2
    assert "no cut of bundled:plain8 has macs of at most 10" in shown.error
    assert not (tmp_path / "run").exists()


def test_a_trial_is_explained(chain: Chain, privynet: Run) -> None:
    folder, printed = chain
    trial = printed["search"]["trial"]
    shown = privynet("search", "--out", folder / "run", "--explain", str(trial))
    assert shown.code == 0 and "chosen: the most accurate certified one" in shown.out
    again = privynet("search", "--out", folder / "run", "--explain", str(trial), "--json")
    assert again.json["row"]["number"] == trial and again.json["limits"]["r2"]["use"] <= 1
    assert privynet("search", "--out", folder / "run", "--explain", "77").code == 2


def finished_trials(journal: Path) -> int:
    """How many trials are over according to a journal."""
    import optuna

    if not journal.exists():
        return 0
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    storage = optuna.storages.JournalStorage(backend)
    studies = storage.get_all_studies()
    if not studies:
        return 0
    trials = storage.get_all_trials(studies[0]._study_id)
    return sum(trial.state.is_finished() for trial in trials)


def test_killed_at_any_moment_the_same_command_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = [*SEARCH, "--trials", "6", "--out", str(run)]
    process = subprocess.Popen(
        [*COMMAND, *line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while finished_trials(run / "study.journal") < 2 and time.monotonic() < deadline:
        assert process.poll() is None, "the search ended before it could be killed"
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = finished_trials(run / "study.journal")
    before = [
        json.loads(text) for text in (run / "study.journal").read_text().splitlines() if text.endswith("}")
    ]
    assert 2 <= kept < 6
    resumed = run_process(line)
    assert resumed.code == 0, resumed.err
    assert resumed.json["trials"]["total"] == 6
    after = [json.loads(text) for text in (run / "study.journal").read_text().splitlines()]
    assert after[: len(before)] == before
    rows = resumed.json["trial_table"]
    assert len(rows) == 6 and len({row["number"] for row in rows}) == 6


def test_an_interrupted_search_says_how_to_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [*COMMAND, *SEARCH, "--trials", "50", "--out", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    while finished_trials(run / "study.journal") < 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    shown = Outcome(process.returncode, out, err)
    assert (shown.code, shown.out) == (130, "")
    assert shown.error == "error: interrupted; the same command goes on from here"
