"""Backbone strings, weights files and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from privynet.artifacts import file_digest
from privynet.encoders import load_backbone, parse_backbone
from privynet.encoders.bundled import NAMES, Plain8, weights_path
from privynet.encoders.state_dicts import state_digest
from privynet.errors import InputError


def test_a_string_is_parsed_into_kind_name_arguments_weights_and_preprocessing() -> None:
    name = parse_backbone("timm:mobilenetv2_100,pad_type=same,weights=w.safetensors,mean=0.5,std=0.1/0.2/0.3")
    assert (name.kind, name.name, name.weights) == ("timm", "mobilenetv2_100", "w.safetensors")
    assert name.arguments == (("pad_type", "same"),)
    assert name.mean == (0.5, 0.5, 0.5) and name.std == (0.1, 0.2, 0.3)
    assert name.architecture == "timm:mobilenetv2_100,pad_type=same"
    assert parse_backbone(str(name)) == name


def test_short_forms_mean_the_same_as_the_string() -> None:
    short = parse_backbone(
        "timm:resnet18", weights="w.pt", mean="0.5", std="0.5", arguments=["num_classes=10"]
    )
    assert short == parse_backbone("timm:resnet18,num_classes=10,weights=w.pt,mean=0.5,std=0.5")


@pytest.mark.parametrize(
    ("text", "message"),
    (
        ("resnet18", "has no kind"),
        ("tim:resnet18", "unknown kind of backbone 'tim'; did you mean timm"),
        ("timm:", "no name"),
        (":resnet18", "unknown kind of backbone ''"),
        ("..net:make", "unknown kind of backbone '..net'"),
        ("__main__:make", "in __main__ cannot be found again"),
        ("timm:resnet18,depth", "is not key=value"),
        ("timm:resnet18,mean=grey,std=1", "mean=grey is not usable"),
        ("timm:resnet18,mean=0.5,std=0", "std=0 is not usable"),
        ("timm:resnet18,mean=1/2,std=1", "mean=1/2 is not usable"),
    ),
)
def test_a_string_that_cannot_be_parsed_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_backbone(text)


@pytest.mark.parametrize(
    ("text", "message"),
    (
        ("timm:mobilenetv2_10", "did you mean mobilenetv2_1"),
        ("torchvision:resnet19", "did you mean resnet"),
        ("bundled:plain9", "unknown bundled backbone 'plain9'; did you mean plain8"),
        ("torchvision:resnet18,weights=random,colour=3", "cannot be built"),
        ("no.such.module:net", "cannot be imported"),
        ("torch.nn:Identity,weights=random", "does not say its preprocessing"),
        ("bundled,weights=/nowhere/w.safetensors", "does not exist"),
        ("timm:resnet18,weights=w.safetensors", "without their preprocessing"),
    ),
)
def test_a_backbone_that_cannot_be_built_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_backbone(parse_backbone(text))


def test_offline_without_weights_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The variable is read once, when the hub's package is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"cannot be fetched; give weights=FILE"):
        load_backbone(parse_backbone("timm:mobilenetv3_small_100"))


@pytest.mark.parametrize("suffix", (".safetensors", ".pt"))
def test_weights_are_read_from_safetensors_and_from_plain_state_dicts(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(3)
    network = Plain8()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": network.state_dict()}, path)
    else:
        save_file(network.state_dict(), path)
    loaded = load_backbone(parse_backbone(f"bundled,weights={path}"))
    assert loaded.weights_digest == state_digest(network)


def test_a_relative_weights_file_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(Plain8().state_dict(), tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    loaded = load_backbone(parse_backbone("bundled,weights=weights.safetensors"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_backbone(loaded.name).weights_digest == loaded.weights_digest
    assert loaded.name == replace(parse_backbone("bundled"), weights=str(tmp_path / "weights.safetensors"))


def test_a_factory_of_the_running_script_is_refused_in_one_line() -> None:
    # In a script __main__ has no spec, which the test runner's has.
    code = (
        "from privynet.encoders import parse_backbone\n"
        "from privynet.errors import InputError\n"
        "try:\n    parse_backbone('__main__:make')\n"
        "except InputError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "__main__" in done.stdout


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Evil()}, "evil.pt")
    with pytest.raises(InputError, match="not a plain state dict"):
        load_backbone(parse_backbone("bundled,weights=evil.pt"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("fault", ("missing", "foreign", "shape", "noise", "empty"))
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, fault: str) -> None:
    state = Plain8().state_dict()
    path = tmp_path / "weights.safetensors"
    if fault == "missing":
        del state["blocks.3.0.weight"]
    elif fault == "foreign":
        state["blocks.99.weight"] = torch.zeros(1)
    elif fault == "shape":
        state["classifier.weight"] = torch.zeros(10, 256)
    save_file(state, path)
    if fault == "noise":
        path.write_bytes(b"not weights at all")
    elif fault == "empty":
        path.write_bytes(b"")
    expected = {
        "missing": r"do not fit: blocks\.3\.0\.weight is missing",
        "foreign": r"do not fit: blocks\.99\.weight is not part",
        "shape": r"do not fit: classifier\.weight is \(10, 256\), not \(100, 256\)",
        "noise": "not a safetensors file",
        "empty": "not a safetensors file",
    }[fault]
    with pytest.raises(InputError, match=expected):
        load_backbone(parse_backbone(f"bundled,weights={path}"))


def card(name: str = NAMES[0]) -> dict[str, Any]:
    """The card that lies beside a bundled backbone's weights."""
    document: dict[str, Any] = json.loads(weights_path(name).with_suffix(".json").read_text())
    return document


def test_the_bundled_weights_are_those_of_their_card_and_small() -> None:
    for name in NAMES:
        facts = card(name)
        assert file_digest(weights_path(name)) == facts["sha256"]
        assert weights_path(name).stat().st_size <= 1.5e6
        assert facts["score"]["value"] >= 0.55 and facts["score"]["n"] == 10_000


@pytest.mark.shared_data
def test_the_bundled_backbone_scores_what_its_card_says(shared: Path) -> None:
    import io
    import itertools

    import numpy as np
    from PIL import Image

    with np.load(shared / "data" / "cifar100_webp.npz", allow_pickle=False) as archive:
        blob, offsets, labels = archive["test_webp"], archive["test_offsets"], archive["test_labels"][:1000]
        images = np.stack(
            [
                np.asarray(Image.open(io.BytesIO(blob[a:b].tobytes())).convert("RGB"))
                for a, b in itertools.pairwise(offsets[:1001])
            ]
        )
    backbone = load_backbone(parse_backbone("bundled"))
    inputs = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.inference_mode():
        accuracy = float((backbone.module(inputs).argmax(1).numpy() == labels).mean())
    # Three standard errors of 1,000 images around the card's score.
    assert abs(accuracy - card()["score"]["value"]) < 0.045


@pytest.mark.shared_data
def test_the_real_mobilenet_loads_and_needs_its_preprocessing_said(shared: Path) -> None:
    weights = shared / "weights" / "mobilenetv2_100-imagenet.timm.safetensors"
    text = f"timm:mobilenetv2_100,pad_type=same,weights={weights}"
    with pytest.raises(InputError, match="preprocessing"):
        load_backbone(parse_backbone(text))
    backbone = load_backbone(parse_backbone(f"{text},mean=0.5,std=0.5"))
    assert backbone.mean == (0.5, 0.5, 0.5) and backbone.weights_digest is not None
