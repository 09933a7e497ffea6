import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from privynet.data import DataSet, open_data
from privynet.errors import InputError, PrivynetError
from privynet.leakage import AuditResult, audit


@dataclass(frozen=True)
class Means:
    """An encoder that sends the grey means of blocks x blocks squares."""

    blocks: int
    input_size: int = 16

    @property
    def digest(self) -> str:
        return f"means{self.blocks}"

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        return 1, self.blocks, self.blocks

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert images.shape[1:] == (self.input_size, self.input_size, 3)
        side = self.input_size // self.blocks
        grey = images.astype(np.float32).mean(axis=3).reshape(-1, 1, self.blocks, side, self.blocks, side)
        means: NDArray[np.float32] = grey.mean(axis=(3, 5))
        return means


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return open_data("digits")


@pytest.fixture(scope="module")
def result(digits: DataSet) -> AuditResult:
    return audit(Means(8), data=digits, pairs=200, test_images=50, budget_s=2, control=True, seed=4)


def test_document_holds_what_a_reader_needs(result: AuditResult, digits: DataSet) -> None:
    document = json.loads(json.dumps(result.document()))
    assert document["verdict"] == "measured"
    assert document["n"] == {"train": 200, "val": len(digits.split("attack-val", limit=100)), "test": 50}
    assert document["seed"] == 4 and document["budget_s"] == 2
    assert document["inputs"] == {
        "data": "digits",
        "data_digest": digits.digest,
        "split": "test",
        "encoder_digest": "means8",
    }
    assert {"psnr_db", "ssim", "r2"} == set(document["strongest"])
    assert {"blind", "label_only", "attacks", "warnings"} <= set(document)


def test_positive_control_passes_and_is_shown(result: AuditResult) -> None:
    control = result.document()["positive_control"]
    assert result.conclusive and control["passed"]
    assert control["psnr_db"]["value"] >= control["required_psnr_db"] == 30


def test_few_pairs_are_warned_about(result: AuditResult) -> None:
    assert any("200 attack pairs" in warning for warning in result.warnings)


def test_finer_features_leak_more(result: AuditResult, digits: DataSet) -> None:
    coarse = audit(Means(2), data=digits, pairs=200, test_images=50, budget_s=2)
    assert coarse.control is None and coarse.document()["positive_control"] is None
    assert coarse.leakage.scores.r2.value < result.leakage.scores.r2.value - 0.1


def test_originals_stand_beside_reconstructions_unless_unwanted(result: AuditResult, digits: DataSet) -> None:
    assert result.originals is not None
    np.testing.assert_array_equal(result.originals, digits.split("test", limit=50).images(32))
    assert result.leakage.reconstructions.shape == result.originals.shape
    assert audit(Means(4), data=digits, pairs=20, test_images=5, budget_s=0.1, images=False).originals is None


def test_cut_short_training_is_warned_about(digits: DataSet) -> None:
    short = audit(Means(4), data=digits, pairs=20, test_images=5, budget_s=0.1)
    assert short.leakage.decoder["stopped"] == "budget"
    assert any("longer attack" in warning for warning in short.warnings)


def test_bad_requests_are_refused(digits: DataSet) -> None:
    with pytest.raises(InputError, match="0 pairs"):
        audit(Means(4), data=digits, pairs=0)
    with pytest.raises(InputError, match="0 test images"):
        audit(Means(4), data=digits, test_images=0)
    with pytest.raises(InputError, match="exam"):
        audit(Means(4), data=digits, split="exam")


def test_no_room_for_features_is_an_error_that_says_so(
    digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(PrivynetError, match="missing"):
        audit(Means(4), data=digits, pairs=20, test_images=5, budget_s=0.1)
