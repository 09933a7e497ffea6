"""The verbs take an encoder with a projection as any other: they find its matrix, or ask for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from privynet.device_profiles import load_profile
from privynet.encoders import (
    EncoderSpec,
    Splitter,
    load_backbone,
    make_encoder,
    parse_backbone,
    write_encoder,
)
from privynet.toolkit.benching import predict_latency

from .conftest import Outcome

Run = Callable[..., Outcome]
OUTPUTS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("projection")
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 16)
    matrix = np.random.default_rng(0).standard_normal((OUTPUTS, splitter.cut("blocks.1.2").channels))
    write_encoder(make_encoder(splitter, cut="blocks.1.2", projection=matrix), made / "encoder.json")
    return made


def test_from_the_spec_to_features_and_an_audit(
    folder: Path, privynet: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert privynet("export", "encoder.json", "--out", "artifact").code == 0
    given = ("--projection-weights", "encoder.safetensors")
    for options in ((), given):
        assert privynet("verify", "artifact", *options).code == 0
    small = ("--split", "select", "--max-images", "5")
    shards = privynet("encode", "artifact", "--data", "digits", *small, "--out", "shards", "--json")
    assert shards.code == 0 and shards.json["n"] == 5
    audit = ("--data", "digits", "--pairs", "60", "--test-images", "20", "--budget", "0.5", "--no-control")
    shown = privynet("audit", "artifact", *audit, "--attack", "unknown-channels")
    assert shown.code == 2 and "unknown-channels cannot run" in shown.error and "projection" in shown.error
    assert shown.error.endswith("leave it out")
    shown = privynet("audit", "encoder.json", *audit, "--attack", "ridge", "--out", "audited", "--json")
    assert shown.json["encoder"]["projection"] == "given"
    page = (folder / "audited" / "report.html").read_text(encoding="utf-8")
    assert "3 mixtures of them are sent (given)" in page and "That the projection is secret" in page
    defended = privynet(
        "defend", "encoder.json", "--data", "digits", "--payload-bits", "8", "--out", "defended"
    )
    assert defended.code == 0 and (folder / "defended" / "encoder.safetensors").is_file()
    assert privynet("export", "defended/encoder.json", "--out", "smaller").code == 0


def test_the_predicted_latency_counts_the_projection(folder: Path) -> None:
    spec = EncoderSpec.read(folder / "encoder.json")
    without = spec.model_copy(update={"projection": None, "projection_weights": None})
    profile = load_profile("raspberry-pi-zero-2w")
    few, all_channels = (predict_latency(one, profile, threads=4) for one in (spec, without))
    assert few["value"] != all_channels["value"]


def test_the_latency_is_predicted_for_the_threads_that_are_measured_if_they_are_known(folder: Path) -> None:
    spec, profile = EncoderSpec.read(folder / "encoder.json"), load_profile("raspberry-pi-zero-2w")
    alone, three, four = (predict_latency(spec, profile, threads=threads) for threads in (1, 3, 4))
    assert (alone["threads"], four["threads"]) == (1, profile.threads)
    assert alone["value"] > four["value"]
    assert three == four
