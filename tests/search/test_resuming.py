"""One search, one run folder: what is the same search, what is not, and what a crash leaves behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privynet.data import open_data
from privynet.device_profiles import CATALOGUE
from privynet.encoders.bundled import weights_path
from privynet.errors import InputError
from privynet.search import search
from privynet.search.evaluation import check_classes
from privynet.search.study.study import population_size

from . import cheap

CHEAP: dict[str, Any] = {**cheap.CHEAP, "trials": 2}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    search(out=tmp_path / "run", **CHEAP)
    return tmp_path / "run"


@pytest.mark.parametrize("change", ({"insecure_fixed_secret": True}, {"images": False}))
def test_another_setting_of_what_is_written_is_another_search(out: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"is the run of another search: {next(iter(change))} differ"):
        search(out=out, **{**CHEAP, **change})


def test_a_device_profile_that_was_edited_is_another_device(tmp_path: Path) -> None:
    profile = tmp_path / "board.toml"
    text = (CATALOGUE / "raspberry-pi-zero-2w.toml").read_text()
    profile.write_text(text)
    device = {**CHEAP, "device": str(profile)}
    search(out=tmp_path / "run", **device)
    profile.write_text("# looked at again\n" + text)
    search(out=tmp_path / "run", **device)
    title = next(line for line in text.splitlines() if line.startswith("title"))
    profile.write_text(text.replace(title, 'title = "Another board"'))
    with pytest.raises(InputError, match="device_digest differ"):
        search(out=tmp_path / "run", **device)


def test_the_same_search_from_another_folder_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(weights_path(), tmp_path / "weights.safetensors")
    digits = open_data("digits").split("select", limit=400)
    arrays = {"images": digits.images(16), "labels": digits.labels}
    np.savez(tmp_path / "digits.npz", allow_pickle=False, **arrays)
    monkeypatch.chdir(tmp_path)
    here = {"backbones": ("bundled,weights=weights.safetensors",), "data": "npz:digits.npz"}
    first = search(out=Path("run"), **{**CHEAP, **here})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = {"backbones": ("bundled,weights=../weights.safetensors",), "data": "npz:../digits.npz"}
    again = search(out=Path("../run"), **{**CHEAP, **there, "trials": 3})
    assert again["trial_table"][:2] == first["trial_table"] and len(again["trial_table"]) == 3


_HOLD = """
import sys, time
from pathlib import Path
from privynet.search.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_search_in_the_run_is_refused_until_the_first_is_gone_however_it_went(out: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(out)], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "held\n"
            for force in (False, True):
                with pytest.raises(InputError, match="another search is running in"):
                    search(out=out, force=force, **CHEAP)
        finally:
            other.kill()
    assert len(search(out=out, **{**CHEAP, "trials": 3})["trial_table"]) == 3


@pytest.mark.parametrize("torn", (b'{"op_code":5,"worker_id":"a', b"\0" * 40, b'{"op_co\n{"op\n'))
def test_a_journal_that_was_cut_off_in_mid_line_goes_on_with_its_last_whole_one(
    out: Path, torn: bytes
) -> None:
    journal = out / "study.journal"
    with journal.open("ab") as file:
        file.write(torn)
    # Optuna's own lock, as a killed process leaves it.
    journal.with_name("study.journal.lock").symlink_to(journal)
    for trials in (3, 4):
        result = search(out=out, **{**CHEAP, "trials": trials})
        assert [row["number"] for row in result["trial_table"]] == list(range(trials))


def test_a_class_without_enough_training_images_is_named_before_anything_is_written(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (400, 16, 16, 3), dtype=np.uint8)
    labels = np.array(["common", "usual"] * 200)
    path = tmp_path / "images.npz"
    np.savez(path, images=images, labels=labels, allow_pickle=False)
    labels[open_data(f"npz:{path}", image_size=16).split("head-train").indices[0]] = "rare"
    np.savez(path, images=images, labels=labels, allow_pickle=False)
    with pytest.raises(InputError, match=r"class 'rare' has 1 of the .* remove the class"):
        search(out=tmp_path / "run", **{**CHEAP, "data": f"npz:{path}", "image_size": 16})
    assert not (tmp_path / "run").exists()


def test_a_class_that_only_the_limit_leaves_out_needs_more_training_images() -> None:
    digits = open_data("digits")
    check_classes(digits, digits.split("head-train", limit=300))
    with pytest.raises(InputError, match=r"of the 12 training images, .* give more --train-images"):
        check_classes(digits, digits.split("head-train", limit=12))


@pytest.mark.parametrize(
    ("change", "message"),
    (
        ({"train_images": 99}, "99 training images are too few; allowed: 100 or more"),
        ({"attack_pairs": 49}, "49 attack pairs are too few; allowed: 50 or more"),
        ({"seed": -1}, "seed -1 is out of range; allowed: 0 to"),
    ),
)
def test_figures_that_are_too_small_are_refused_with_what_is_allowed(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        search(out=tmp_path / "run", **{**CHEAP, **change})
    assert not (tmp_path / "run").exists()


def test_images_too_small_to_attack_are_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(300) % 2, allow_pickle=False)
    with pytest.raises(InputError, match="images of 12 pixels are too small; allowed: 16 or more"):
        search(out=tmp_path / "run", **{**CHEAP, "data": f"npz:{tmp_path / 'images.npz'}", "image_size": 12})


@pytest.mark.parametrize("trials", (1, 4, 40, 200, 1000))
def test_a_population_leaves_trials_to_learn_from_it(trials: int) -> None:
    size = population_size(trials)
    assert 2 <= size <= 50 and (size == 2 or 4 * size <= trials)


def test_every_generation_of_nsga2_fits_the_trials(tmp_path: Path) -> None:
    result = search(out=tmp_path / "run", **{**CHEAP, "sampler": "nsga2", "trials": 12})
    assert len(result["trial_table"]) == 12
