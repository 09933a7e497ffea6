"""The search as its callers see it: on real digits, with the bundled backbone."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privynet.data import open_data
from privynet.encoders import EncoderSpec, build_encoder
from privynet.errors import InputError
from privynet.search import search

QUICK: dict[str, Any] = {
    "device": "raspberry-pi-zero-2w",
    "data": "digits",
    "trials": 4,
    "train_images": 300,
    "attack_pairs": 100,
    "attack_budget_s": 1.0,
    "sampler": "random",
    "limits": {"r2": 0.99},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("search") / "run"
    return out, search(out=out, **QUICK)


def test_the_chosen_encoder_is_the_most_accurate_of_those_inside_every_limit(
    run: tuple[Path, dict[str, Any]],
) -> None:
    _, result = run
    feasible = [row for row in result["trial_table"] if row["feasible"]]
    assert feasible and result["encoder"] is not None
    for row in result["trial_table"]:
        over = {m for m, limit in result["limits"].items() if row["metrics"].get(m, 0) > limit["limit"]}
        assert set(row["violated"]) == over
        assert row["feasible"] == (row["state"] == "evaluated" and not over)
    assert result["utility"]["value"] <= max(row["utility"]["value"] for row in feasible)
    for limit in result["limits"].values():
        assert limit["value"] <= limit["limit"] and limit["source"] in ("user", "profile", "default")
    assert result["trials"]["total"] == 4 == result["trials"]["pruned"] + result["trials"]["evaluated"]


def test_the_spec_on_disk_is_the_result_and_builds(run: tuple[Path, dict[str, Any]]) -> None:
    out, result = run
    spec = EncoderSpec.read(out / "encoder.json")
    assert spec.document() == result["encoder"]
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
    import shutil

    out, result = run
    copied = tmp_path / "run"
    shutil.copytree(out, copied)
    longer = search(out=copied, **{**QUICK, "trials": 5})
    assert longer["trial_table"][:4] == result["trial_table"] and len(longer["trial_table"]) == 5


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
    search(out=tmp_path / "other", **{**QUICK, "trials": 1, "limits": {"macs": 1.0}})
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


def test_nothing_feasible_trains_nothing_and_names_the_nearest_misses(tmp_path: Path) -> None:
    result = search(out=tmp_path / "run", **{**QUICK, "trials": 8, "limits": {"macs": 1000.0}})
    assert result["encoder"] is None and result["utility"] is None
    assert result["trials"]["evaluated"] == 0 and result["trials"]["pruned"] == 8
    assert result["binding"] == ["macs"]
    macs = [row["metrics"]["macs"] for row in result["trial_table"]]
    assert result["nearest"][0]["metrics"]["macs"] == min(macs)
    assert not (tmp_path / "run" / "encoder.json").exists()
    assert not list((tmp_path / "run" / "cache").iterdir())


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
