import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from privynet.artifacts import AuditFolder
from privynet.data import DataSet, open_data
from privynet.encoders import (
    EncoderSpec,
    Splitter,
    load_backbone,
    make_encoder,
    parse_backbone,
    write_encoder,
)
from privynet.errors import InputError, PrivynetError
from privynet.exporters.int8 import in_int8
from privynet.leakage import ATTACKS, AuditResult, AuditSubject, FolderStore, Recogniser, audit

RIDGE = next(attack for attack in ATTACKS if attack.name == "ridge")
LIKELIHOOD = next(attack for attack in ATTACKS if attack.name == "likelihood")
AVERAGING = next(attack for attack in ATTACKS if attack.name == "averaging")


@dataclass(frozen=True)
class Means:
    """An encoder that sends the grey means of blocks x blocks squares, with noise if asked."""

    blocks: int
    noise_std: float = 0.0
    input_size: int = 16

    @property
    def digest(self) -> str:
        return f"means{self.blocks}"

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        return 1, self.blocks, self.blocks

    def encode(
        self, images: NDArray[np.uint8], *, generator: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        assert images.shape[1:] == (self.input_size, self.input_size, 3)
        side = self.input_size // self.blocks
        grey = images.astype(np.float32).mean(axis=3).reshape(-1, 1, self.blocks, side, self.blocks, side)
        means = grey.mean(axis=(3, 5))
        if self.noise_std:
            assert generator is not None
            means += self.noise_std * generator.standard_normal(means.shape)
        result: NDArray[np.float32] = means.astype(np.float32)
        return result


QUICK: dict[str, Any] = {"pairs": 200, "test_images": 50, "budget_s": 2, "attacks": [RIDGE], "seed": 4}


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return open_data("digits")


@pytest.fixture(scope="module")
def result(digits: DataSet) -> AuditResult:
    """With a network of its own to judge by; the other tests share one that knows little."""
    return audit(AuditSubject(Means(8)), data=digits, **QUICK)


@pytest.fixture(scope="module")
def quick(digits: DataSet) -> dict[str, Any]:
    split = digits.split("head-train", limit=100)
    return {**QUICK, "recogniser": Recogniser.train(split.images(32), split.labels, classes=10)}


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
    measures = {"psnr_db", "ssim", "r2", "reidentification", "reidentification_features", "classified"}
    assert measures == set(document["strongest"]) == set(document["strongest_pairs_only"])
    assert measures == set(document["blind"]) == set(document["label_only"])
    assert document["blind"]["reidentification_features"]["value"] == pytest.approx(1 / 50)
    assert document["recogniser"]["accuracy"]["value"] > 0.8
    assert document["recogniser"]["chance"] < 0.3
    assert 0 < document["dcor"]["corrected"] < document["dcor"]["biased"] <= 1
    assert document["bound"] is None and any("no guarantee" in warning for warning in document["warnings"])


def test_positive_control_passes_and_is_shown(result: AuditResult) -> None:
    (attack,) = result.document()["attacks"]
    assert result.conclusive and attack["control"]["passed"]
    assert attack["control"]["psnr_db"]["value"] >= attack["control"]["required_psnr_db"] == 30


def test_an_audit_whose_strongest_attack_fails_its_control_is_inconclusive(
    quick: dict[str, Any], digits: DataSet, make_pairs: Callable[..., Any]
) -> None:
    @dataclass(frozen=True)
    class Blind:
        name: str = "blind"
        knows: tuple[str, ...] = ("pairs",)

        def fit(self, view: Any, **options: Any) -> Any:
            @dataclass(frozen=True)
            class Fitted:
                def reconstruct(self, features: NDArray[Any]) -> NDArray[np.float32]:
                    return np.broadcast_to(view.mean_image, (len(features), *view.mean_image.shape))

                def document(self) -> dict[str, Any]:
                    return {"seconds": 0.0, "pairs": 0, "stopped": "converged"}

            return Fitted()

    found = audit(AuditSubject(Means(8)), data=digits, **{**quick, "attacks": [Blind()]})  # type: ignore[list-item]
    assert not found.conclusive
    document = found.document()
    assert document["verdict"] == "inconclusive"
    assert any("failed its positive control" in warning for warning in document["warnings"])


def test_few_pairs_are_warned_about(result: AuditResult) -> None:
    assert any("200 attack pairs" in warning for warning in result.document()["warnings"])


def test_finer_features_leak_more(quick: dict[str, Any], result: AuditResult, digits: DataSet) -> None:
    coarse = audit(AuditSubject(Means(2)), data=digits, control=False, **quick)
    assert coarse.controls is None and coarse.document()["attacks"][0]["control"] is None
    assert coarse.leakage.scores.r2.value < result.leakage.scores.r2.value - 0.1


def test_leakage_is_shown_against_the_number_of_pairs(result: AuditResult) -> None:
    curve = result.document()["pairs_curve"]
    assert [(point["attack"], point["pairs"]) for point in curve] == [("ridge", 100), ("ridge", 200)]
    assert curve[0]["r2"]["value"] < curve[1]["r2"]["value"] + 0.05


def test_attacks_that_cannot_run_are_named_with_the_reason(quick: dict[str, Any], digits: DataSet) -> None:
    asked = {**quick, "attacks": None, "budget_s": 0.5, "test_images": 20}
    document = audit(AuditSubject(Means(4)), data=digits, control=False, **asked).document()
    left_out = {entry["attack"]: entry["reason"] for entry in document["not_run"]}
    assert "noise" in left_out["averaging"]
    assert "not known" in left_out["likelihood"]
    assert {entry["attack"] for entry in document["attacks"]} | set(left_out) == {a.name for a in ATTACKS}
    with pytest.raises(InputError, match="likelihood cannot run"):
        audit(AuditSubject(Means(4)), data=digits, **{**quick, "attacks": [LIKELIHOOD]})


def test_averaging_undoes_noise(quick: dict[str, Any], digits: DataSet) -> None:
    asked = {**quick, "attacks": [RIDGE, AVERAGING], "control": False, "captures": 30}
    document = audit(AuditSubject(Means(8, noise_std=60.0)), data=digits, **asked).document()
    ridge, averaging = (entry["psnr_db"]["value"] for entry in document["attacks"])
    assert averaging > ridge + 1
    assert document["captures"] == 30 and document["encoder"]["noise_std"] == 60


def test_every_attack_runs_on_a_real_encoder_and_the_secret_is_not_shown(
    quick: dict[str, Any], digits: DataSet
) -> None:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    spec = make_encoder(splitter, cut=splitter.cuts[2].name, channels=(3, 1, 7, 12)).spec
    asked = {**quick, "attacks": None, "budget_s": 1, "test_images": 20, "pairs": 60}
    document = audit(AuditSubject.of_spec(spec), data=digits, control=False, **asked).document()
    assert {entry["attack"] for entry in document["not_run"]} == {"averaging"}
    assert document["encoder"]["channels"] == 4 and document["encoder"]["cut"] == spec.cut
    unknown = next(entry for entry in document["attacks"] if entry["attack"] == "unknown-channels")
    assert "channels" not in unknown["fit"]
    assert 0 <= unknown["fit"]["found"] <= 1


def test_a_projection_is_attacked_by_those_who_hold_it_and_there_are_no_channels_to_find(
    quick: dict[str, Any], digits: DataSet, tmp_path: Path
) -> None:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    cut = splitter.cuts[2]
    matrix = np.random.default_rng(0).standard_normal((5, cut.channels)) / cut.channels**0.5
    write_encoder(make_encoder(splitter, cut=cut.name, projection=matrix), tmp_path / "encoder.json")
    subject = AuditSubject.of_spec(EncoderSpec.read(tmp_path / "encoder.json"))
    asked = {**quick, "attacks": None, "budget_s": 2, "test_images": 20, "pairs": 60}
    document = audit(subject, data=digits, control=False, **asked).document()
    left_out = {entry["attack"]: entry["reason"] for entry in document["not_run"]}
    assert left_out.keys() == {"averaging", "unknown-channels"}
    assert "projection" in left_out["unknown-channels"]
    likelihood = next(entry for entry in document["attacks"] if entry["attack"] == "likelihood")
    assert likelihood["psnr_db"]["value"] > document["blind"]["psnr_db"]["value"] + 2
    assert document["encoder"]["projection"] == "given" and document["encoder"]["feature_shape"][0] == 5
    assert any("projection" in warning for warning in document["warnings"])


def test_a_spec_in_int8_is_attacked_as_it_computes(digits: DataSet) -> None:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    plain = make_encoder(splitter, cut=splitter.cuts[2].name, channels=(3, 1, 7, 12))
    images = digits.split("test", limit=4).images(32)
    subject = AuditSubject.of_spec(in_int8(plain, images)[0].spec)
    sent, exact = subject.encoder.encode(images), plain.encode(images)
    assert len(np.unique(sent)) <= 256 < len(np.unique(exact))
    np.testing.assert_allclose(sent, exact, atol=0.1 * np.abs(exact).max())
    assert subject.torch_encoder is not None and subject.backbone is not None


def test_private_attributes_are_predicted_beside_chance_and_raw_images(
    quick: dict[str, Any], digits: DataSet
) -> None:
    document = audit(
        AuditSubject(Means(8)), data=digits, attributes=["parity"], control=False, **quick
    ).document()
    (entry,) = document["attributes"]
    assert entry["attribute"] == "parity" and entry["classes"] == ["even", "odd"]
    assert entry["accuracy"]["value"] > entry["chance"]
    assert 0 < entry["raw_images"]["value"] <= 1
    with pytest.raises(InputError, match="colour"):
        audit(AuditSubject(Means(8)), data=digits, attributes=["colour"], **quick)


def test_originals_stand_beside_reconstructions_unless_unwanted(
    quick: dict[str, Any], result: AuditResult, digits: DataSet, tmp_path: Path
) -> None:
    assert result.originals is not None
    np.testing.assert_array_equal(result.originals, digits.split("test", limit=50).images(32))
    assert result.leakage.reconstructions.shape == result.originals.shape
    store = FolderStore(AuditFolder.start(tmp_path / "audit", {}))
    kept = audit(AuditSubject(Means(4)), data=digits, images=False, control=False, store=store, **quick)
    assert kept.originals is None
    assert not store.folder.originals.exists()
    for arrays in store.folder.path.rglob("*.npz"):
        with np.load(arrays) as archive:
            assert len(archive["reconstructions"]) == 0


def test_an_interrupted_audit_goes_on_after_its_last_attack(
    quick: dict[str, Any], digits: DataSet, tmp_path: Path
) -> None:
    fits: list[str] = []

    @dataclass(frozen=True)
    class Watched:
        name: str
        stops: bool = False
        knows: tuple[str, ...] = ("pairs",)

        def fit(self, view: Any, **options: Any) -> Any:
            if self.stops:
                raise KeyboardInterrupt
            fits.append(self.name)
            return RIDGE.fit(view, **options)

    def run(*attacks: Watched) -> AuditResult:
        store = FolderStore(AuditFolder.start(tmp_path / "audit", {"data": "digits"}))
        return audit(
            AuditSubject(Means(8)),
            data=digits,
            control=False,
            store=store,
            **{**quick, "attacks": attacks, "pairs": 60},
        )

    with pytest.raises(KeyboardInterrupt):
        run(Watched("first"), Watched("second", stops=True))
    resumed = run(Watched("first"), Watched("second"))
    again = run(Watched("first"), Watched("second"))
    assert fits == ["first", "second"]
    assert [entry.attack for entry in resumed.leakage.attacks] == ["first", "second"]
    assert again.document() == resumed.document()
    np.testing.assert_array_equal(again.leakage.reconstructions, resumed.leakage.reconstructions)


def test_damaged_results_are_an_error_that_says_so(
    quick: dict[str, Any], digits: DataSet, tmp_path: Path
) -> None:
    store = FolderStore(AuditFolder.start(tmp_path / "audit", {}))
    audit(AuditSubject(Means(8)), data=digits, control=False, store=store, **quick)
    _, arrays = store.folder.attack("ridge")
    arrays.write_bytes(arrays.read_bytes()[:-200])
    with pytest.raises(PrivynetError, match="damaged"):
        audit(AuditSubject(Means(8)), data=digits, control=False, store=store, **quick)


def test_a_folder_of_another_audit_is_refused_and_replaced_only_by_force(tmp_path: Path) -> None:
    folder = AuditFolder.start(tmp_path / "audit", {"pairs": 10})
    (folder.path / "attacks" / "ridge.json").write_text("{}")
    with pytest.raises(InputError, match=r"other settings \(pairs\)"):
        AuditFolder.start(tmp_path / "audit", {"pairs": 20})
    replaced = AuditFolder.start(tmp_path / "audit", {"pairs": 20}, force=True)
    assert not any((replaced.path / "attacks").iterdir())
    assert replaced.path.stat().st_mode & 0o777 == 0o700


def test_bad_requests_are_refused(quick: dict[str, Any], digits: DataSet) -> None:
    subject = AuditSubject(Means(4))
    for wrong, message in (
        ({"pairs": 0}, "0 pairs"),
        ({"test_images": 0}, "0 test images"),
        ({"split": "exam"}, "exam"),
        ({"pairs": 10}, "10 images, 50 are needed"),
        ({"test_images": 5}, "5 images, 20 are needed"),
    ):
        with pytest.raises(InputError, match=message):
            audit(subject, data=digits, **{**quick, **wrong})


def test_no_room_for_features_is_an_error_that_says_so(
    quick: dict[str, Any], digits: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(PrivynetError, match="missing"):
        audit(AuditSubject(Means(4)), data=digits, **quick)
