"""NoPeek on digits: what it lowers, what it keeps, what it must say."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from privynet.data import DataSet
from privynet.defences import Adaptation, adapt
from privynet.encoders import Encoder
from privynet.errors import InputError, PrivynetError
from privynet.leakage.distance_correlation import distance_correlation


def run(encoder: Encoder, digits: DataSet, *, alpha: float, **options: Any) -> Adaptation:
    options = {"steps": 60, "accelerator": "cpu", **options}
    train, held_out = digits.split("head-train"), digits.split("select", limit=200)
    return adapt(encoder, train, held_out, alpha=alpha, **options)


@pytest.fixture(scope="module")
def adapted(encoder: Encoder, digits: DataSet) -> Adaptation:
    return run(encoder, digits, alpha=1.0)


def test_it_lowers_the_corrected_dcor_and_keeps_the_task(adapted: Adaptation) -> None:
    assert adapted.after.dcor.corrected < 0.7 * adapted.before.dcor.corrected
    assert adapted.after.accuracy.ci95[0] > 0.5  # chance is 0.1
    assert adapted.document()["collapse"]["collapsed"] is False and adapted.warnings() == []


def test_what_it_reports_is_so(adapted: Adaptation, encoder: Encoder, digits: DataSet) -> None:
    images = digits.split("select", limit=200).images(16)
    for reported, measured in ((adapted.before, encoder), (adapted.after, adapted.encoder)):
        again = distance_correlation(images / np.float32(255), measured.encode(images))
        assert reported.dcor.corrected == pytest.approx(again.corrected, abs=1e-4)
        assert reported.dcor.n == reported.accuracy.n == 200
    document = json.loads(json.dumps(adapted.document()))
    assert document["fit"]["steps"] == 60 and document["fit"]["stopped"] == "steps"


def test_more_weight_lowers_it_more(adapted: Adaptation, encoder: Encoder, digits: DataSet) -> None:
    assert adapted.after.dcor.corrected < run(encoder, digits, alpha=0.0).after.dcor.corrected - 0.05


def test_an_absurd_alpha_ends_in_a_collapse_that_is_told(encoder: Encoder, digits: DataSet) -> None:
    absurd = run(encoder, digits, alpha=1e4, steps=80)
    assert absurd.document()["collapse"]["collapsed"]
    assert any("collapsed" in warning for warning in absurd.warnings())


def test_the_same_seed_gives_the_same_weights(encoder: Encoder, digits: DataSet) -> None:
    state = torch.random.get_rng_state()
    first, second, other = (
        run(encoder, digits, alpha=1.0, steps=12, seed=seed).encoder.spec.adapted for seed in (3, 3, 4)
    )
    assert first is not None and second is not None and other is not None
    assert first.digest == second.digest != other.digest
    torch.testing.assert_close(torch.random.get_rng_state(), state)


def test_the_given_encoder_is_left_as_it_is(adapted: Adaptation, encoder: Encoder, digits: DataSet) -> None:
    assert encoder.spec.adapted is None
    assert adapted.encoder.spec.adapted is not None and adapted.encoder.spec.adapted.alpha == 1.0
    assert adapted.encoder.digest != encoder.digest
    assert not any(parameter.requires_grad for parameter in adapted.encoder.parameters())
    images = digits.split("select", limit=20).images(16)
    assert np.abs(adapted.encoder.encode(images) - encoder.encode(images)).max() > 0.01


def test_the_clock_ends_it_and_that_is_told(encoder: Encoder, digits: DataSet) -> None:
    short = run(encoder, digits, alpha=1.0, steps=100_000, budget_s=1.0)
    assert short.document()["fit"]["stopped"] == "budget" and short.steps < 100_000


def test_an_interruption_comes_through(encoder: Encoder, digits: DataSet) -> None:
    class Impatient:
        def advance(self, steps: float = 1, *, note: str | None = None) -> None:
            raise KeyboardInterrupt

    class Bars:
        def task(self, description: str, total: float | None = None) -> Any:
            return nullcontext(Impatient())

        def warn(self, message: str) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        run(encoder, digits, alpha=1.0, progress=Bars())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "alpha -1"),
        ({"alpha": float("nan")}, "alpha nan"),
        ({"alpha": 1.0, "steps": 0}, "0 steps"),
        ({"alpha": 1.0, "budget_s": 0.0}, "budget of 0 s"),
        ({"alpha": 1.0, "batch": 64}, "batch of 64 is too small"),
        ({"alpha": 1.0, "batch": 5000}, "training images"),
        ({"alpha": 1.0, "accelerator": "tpu"}, "unknown accelerator 'tpu'"),
    ],
)
def test_what_cannot_be_is_refused(
    encoder: Encoder, digits: DataSet, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(encoder, digits, **options)


def test_a_divergence_is_told(encoder: Encoder, digits: DataSet) -> None:
    with pytest.raises(PrivynetError, match="finite"):
        run(encoder, digits, alpha=1e38, steps=8)
