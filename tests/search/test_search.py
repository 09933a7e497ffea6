"""The search as its callers see it: on real digits, with the bundled backbone."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privynet.data import open_data
from privynet.encoders import EncoderSpec, build_encoder
from privynet.errors import InputError
from privynet.search import explain, search

QUICK: dict[str, Any] = {
    "device": "raspberry-pi-zero-2w",
    "data": "digits",
    "trials": 4,
    "train_images": 300,
    "attack_pairs": 100,
    "attack_budget_s": 1.0,
    "sampler": "random",
    "limits": {"r2": 0.99},
    "certify": 1,
    "input_sizes": (16,),
    "policies": ("fisher", "random", "projection"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("search") / "run"
    return out, search(out=out, **QUICK)


def test_the_chosen_encoder_is_the_most_accurate_certified_one_inside_every_limit(
    run: tuple[Path, dict[str, Any]],
) -> None:
    _, result = run
    assert result["encoder"] is not None
    for row in result["trial_table"]:
        over = {m for m, limit in result["limits"].items() if row["metrics"].get(m, 0) > limit["limit"]}
        assert set(row["violated"]) == over
        assert row["feasible"] == (row["state"] == "evaluated" and not over)
    inside = [one for one in result["certifications"] if one["feasible"]]
    assert 1 <= len(inside) <= len(result["certifications"])
    best = max(inside, key=lambda one: one["utility"]["value"])
    assert result["utility"]["value"] == best["utility"]["value"] and result["trial"] == best["trial"]
    for limit in result["limits"].values():
        assert limit["value"] <= limit["limit"] and limit["source"] in ("user", "profile", "default")
    trials = result["trials"]
    assert trials["total"] == 4 == trials["pruned"] + trials["evaluated"]
    assert trials["pruned"] == trials["by_stage"]["costs"]
    assert set(result["relaxed"]) == set(result["binding"])


def test_the_overview_has_accuracy_and_loss_over_cuts_and_channels(run: tuple[Path, dict[str, Any]]) -> None:
    _, result = run
    (entry,) = result["overview"]
    assert entry["cuts"][0] == "blocks.0.2" and entry["counts"][0] == 1
    for measure in ("accuracy", "r2"):
        assert len(entry[measure]) == len(entry["cuts"])
        for row in entry[measure]:
            known = [value for value in row if value is not None]
            assert len(row) == len(entry["counts"]) and row[: len(known)] == known and max(known) <= 1
    leaks = entry["r2"][0]
    assert leaks[0] < next(value for value in reversed(leaks) if value is not None)


def test_the_spec_on_disk_is_the_result_and_builds(run: tuple[Path, dict[str, Any]]) -> None:
    out, result = run
    spec = EncoderSpec.read(out / "encoder.json")
    assert spec.digest == result["encoder_digest"]
    encoder = build_encoder(spec)
    images = open_data("digits").split("select", limit=3).images(encoder.input_size)
    assert encoder.encode(images).shape == (3, *encoder.feature_shape)
    assert result["limits"]["payload_bytes"]["value"] == 4 * np.prod(encoder.feature_shape)
    assert result["limits"]["storage_kb"]["value"] == (out / "encoder.onnx").stat().st_size / 1024


def test_the_same_call_resumes_and_has_nothing_left_to_do(run: tuple[Path, dict[str, Any]]) -> None:
    out, result = run
    again = search(out=out, **QUICK)
    # The seconds it took are the first call's: the result was read, not made.
    assert {key: again[key] for key in result} == json.loads(json.dumps(result))


def test_more_trials_go_on_where_the_run_stopped(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, result = run
    copied = tmp_path / "run"
    shutil.copytree(out, copied)
    longer = search(out=copied, **{**QUICK, "trials": 5})
    assert longer["trial_table"][:4] == result["trial_table"] and len(longer["trial_table"]) == 5


def test_interrupted_before_more_trials_were_certified_it_certifies_them_when_it_goes_on(
    run: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    longer = {**QUICK, "trials": 5}
    copied = tmp_path / "run"
    shutil.copytree(run[0], copied)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sys.modules["privynet.search.search"], "certify_best", interrupted)
        search(out=copied, **longer)
    assert search(out=copied, **longer)["trials"]["total"] == 5


def test_nothing_exact_is_kept_of_a_secret_selection(run: tuple[Path, dict[str, Any]]) -> None:
    """By exact figures that are the same for all, whoever has backbone and data could find the channels."""
    rows = [json.loads(line) for line in (run[0] / "study.journal").read_text().splitlines()]
    trials: dict[int, dict[str, Any]] = {}
    for row in rows:
        trials.setdefault(row.get("trial_id", -1), {}).update(row.get("user_attr", {}))
    secret = [
        trial["evaluation"]
        for trial in trials.values()
        if trial.get("candidate", {}).get("policy") in ("random", "leak-prune") and "evaluation" in trial
    ]
    assert secret
    for evaluation in secret:
        assert not (evaluation["proxies"] or evaluation["utility"] or evaluation["leakage"])
        for estimate in evaluation["estimates"].values():
            assert round(estimate["value"], 2) == estimate["value"]


def test_the_first_trials_are_the_surveys_best_whatever_the_seed(tmp_path: Path) -> None:
    guided = {**QUICK, "sampler": "tpe", "trials": 1, "limits": {"r2": 0.9}, "policies": ("fisher",)}
    first = [
        search(out=tmp_path / str(seed), cache=tmp_path / "cache", **{**guided, "seed": seed})
        for seed in (0, 1)
    ]
    chosen = [
        {name: result["trial_table"][0][name] for name in ("cut", "channels", "policy")} for result in first
    ]
    assert chosen[0] == chosen[1]
    (entry,) = first[0]["overview"]
    assert not entry["calibrated"]
    row, column = entry["cuts"].index(chosen[0]["cut"]), entry["counts"].index(chosen[0]["channels"])
    quiet = [
        accuracy
        for accuracies, losses in zip(entry["accuracy"], entry["r2"], strict=True)
        for accuracy, loss in zip(accuracies, losses, strict=True)
        if loss is not None and loss <= entry["r2"][row][column]
    ]
    assert entry["accuracy"][row][column] == max(quiet)


@pytest.mark.parametrize("change", ({"seed": 1}, {"limits": {"r2": 0.9}}, {"device": "raspberry-pi-5"}))
def test_another_search_on_the_same_run_is_refused(
    run: tuple[Path, dict[str, Any]], change: dict[str, Any]
) -> None:
    out, _ = run
    with pytest.raises(InputError, match="is the run of another search"):
        search(out=out, **{**QUICK, **change})


def test_the_secret_is_private_random_and_nowhere_else(
    run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, result = run
    secret = json.loads((out / "secret.json").read_text())["secret"]
    assert stat.S_IMODE((out / "secret.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert secret not in json.dumps(result)
    for file in out.rglob("*"):
        if file.is_file() and file.name != "secret.json":
            data = file.read_bytes()
            assert secret.encode() not in data and bytes.fromhex(secret) not in data, file.name
    search(out=tmp_path / "other", **{**QUICK, "trials": 1, "limits": {"r2": -9.0}})
    assert json.loads((tmp_path / "other" / "secret.json").read_text())["secret"] != secret


def test_the_images_shown_are_those_of_select_at_the_reference_size(run: tuple[Path, dict[str, Any]]) -> None:
    out, _ = run
    with np.load(out / "reconstructions.npz", allow_pickle=False) as shown:
        originals, rebuilt, psnr_db = shown["originals"], shown["reconstructions"], shown["psnr_db"]
    select = open_data("digits").split("select").images(32)
    assert originals.shape == rebuilt.shape and originals.shape[1:] == (32, 32, 3)
    for original, guess, psnr in zip(originals, rebuilt, psnr_db, strict=True):
        assert (select == original).all((1, 2, 3)).any()
        error = np.mean((original.astype(float) - guess) ** 2) / 255**2
        assert psnr == pytest.approx(10 * np.log10(1 / error), abs=0.3)  # shown images are rounded to bytes


def test_nothing_feasible_names_the_nearest_misses(tmp_path: Path) -> None:
    limits = {"r2": -9.0, "payload_bytes": 1e9, "latency_ms": 1e9}
    result = search(out=tmp_path / "run", **{**QUICK, "trials": 8, "limits": limits})
    assert result["encoder"] is None and result["utility"] is None
    assert result["trials"]["feasible"] == 0 and result["trials"]["certified"] == 0
    assert result["binding"] == ["r2"]
    misses = [row["metrics"]["r2"] for row in result["nearest"]]
    assert misses == sorted(misses)
    assert not (tmp_path / "run" / "encoder.json").exists()
    assert "r2" in " ".join(explain(tmp_path / "run", result["nearest"][0]["number"])["sentences"])


def test_a_trial_is_explained_from_the_runs_result(run: tuple[Path, dict[str, Any]]) -> None:
    out, result = run
    chosen = explain(out, result["trial"])
    assert "chosen: the most accurate certified one inside every limit" in chosen["sentences"]
    assert set(chosen["limits"]) == set(result["limits"])
    for row in result["trial_table"]:
        told = explain(out, row["number"])
        assert told["row"] == row
        for metric in row["violated"]:
            assert any(sentence.startswith(f"rejected: {metric} ") for sentence in told["sentences"])
    with pytest.raises(InputError, match="no finished trial 99"):
        explain(out, 99)


def test_another_runs_best_are_tried_first(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, result = run
    warm = search(out=tmp_path / "warm", **{**QUICK, "trials": 1, "seed": 5}, warm_start=out)
    (row,) = warm["trial_table"]
    evaluated = [known for known in result["trial_table"] if known["state"] == "evaluated"]
    best = max(evaluated, key=lambda known: known["estimates"]["accuracy"]["value"])
    assert [row[key] for key in ("cut", "channels", "policy")] == [
        best[key] for key in ("cut", "channels", "policy")
    ]
    elsewhere = {**QUICK, "input_sizes": (24,), "trials": 1}
    with pytest.raises(InputError, match="no candidate of"):
        search(out=tmp_path / "elsewhere", **elsewhere, warm_start=out)


def test_fewer_bits_and_noise_are_part_of_the_encoder(tmp_path: Path) -> None:
    options = {**QUICK, "trials": 1, "certify": 1, "noise_shares": (0.5,), "payload_bits": (8,)}
    result = search(out=tmp_path / "run", **options)
    spec = EncoderSpec.read(tmp_path / "run" / "encoder.json")
    assert spec.payload.bits == 8 and spec.noise_std > 0
    shape = build_encoder(spec).feature_shape
    assert result["limits"]["payload_bytes"]["value"] == np.prod(shape)


@pytest.mark.parametrize(
    ("change", "message"),
    (
        ({"device": "raspberry-pi-6"}, "raspberry-pi-5"),
        ({"data": "digit"}, "digits"),
        ({"backbones": ("timm:mobilenetv2_99",)}, "did you mean"),
        ({"backbones": ()}, "no backbone"),
        ({"sampler": "tpee"}, "did you mean tpe"),
        ({"trials": 0}, "0 trials are too few"),
        ({"trials": -3}, "-3 trials are too few"),
        ({"timeout_s": 0.0}, "timeout of 0 s"),
        ({"attack_pairs": 3}, "3 attack pairs are too few"),
        ({"limits": {"speed": 1.0}}, "unknown metric"),
        ({"limits": {"macs": 1000.0}}, "no cut of bundled:plain8 has macs of at most 1,000 MACs"),
        ({"policies": ("fischer",)}, "did you mean fisher"),
        ({"noise_shares": (-1.0,)}, "noise share of -1"),
        ({"payload_bits": (5,)}, "5 bits"),
        ({"certify": 0}, "0 candidates to certify are too few"),
        ({"select_images": 3}, "3 images to compare on are too few"),
        ({"input_sizes": (4,)}, "input size 4"),
    ),
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        search(out=tmp_path / "run", **{**QUICK, **change})
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(InputError):
            search(out=tmp_path / "run", force=force, **QUICK)
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years of work"
