"""The pack of micro-models: what a target gets, and whether it tells the kinds of work apart."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest

from privynet.device_profiles.calibration import MicroModel, micro_models
from privynet.device_profiles.costs import model_costs
from privynet.device_profiles.latency import FEATURES, features_of

MOST_BYTES = 2 * 2**20


@pytest.fixture(scope="module")
def pack() -> list[MicroModel]:
    return micro_models()


def test_the_pack_is_small_and_always_the_same(pack: list[MicroModel]) -> None:
    data = [one.model.SerializeToString(deterministic=True) for one in pack]
    assert data == [one.model.SerializeToString(deterministic=True) for one in micro_models()]
    assert sum(map(len, data)) < MOST_BYTES
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        for one, content in zip(pack, data, strict=True):
            written.writestr(one.name, content)
    assert len(archive.getvalue()) < MOST_BYTES / 4
    assert len({one.name for one in pack}) == len(pack)


def test_every_model_is_valid_and_runs(pack: list[MicroModel]) -> None:
    for one in pack[::15]:
        onnx.checker.check_model(one.model, full_check=True)
        session = onnxruntime.InferenceSession(
            one.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (given,) = session.get_inputs()
        (features,) = session.run(None, {given.name: np.full(given.shape, 128, np.uint8)})
        assert features.shape == tuple(session.get_outputs()[0].shape)
        assert np.isfinite(features).all()


@pytest.mark.parametrize("block", (1, 16))
def test_the_features_of_the_pack_are_independent(pack: list[MicroModel], block: int) -> None:
    work = np.array(
        [list(features_of(model_costs(one.model).kernels, channel_block=block).values()) for one in pack]
    )
    present = work.any(axis=0)
    missing = {name for name, there in zip(FEATURES, present, strict=True) if not there}
    # With blocks of one channel all groups fill them.
    assert missing <= {"unblocked_depthwise", "unblocked_grouped", "unblocked_unfolded"}
    scaled = work[:, present] / work[:, present].max(axis=0)
    assert np.linalg.matrix_rank(scaled, tol=1e-6) == present.sum()
    assert np.linalg.cond(scaled) < 1e4
