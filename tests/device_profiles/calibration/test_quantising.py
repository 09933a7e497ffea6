"""Micro-models in int8: what ONNX Runtime makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from privynet.device_profiles.calibration import MicroModel, micro_models
from privynet.device_profiles.calibration.quantising import quantised


@pytest.fixture(scope="module")
def models() -> list[MicroModel]:
    """One of each family."""
    return list({one.name.split("-", 1)[1]: one for one in micro_models()}.values())


def test_every_convolution_is_computed_in_integers(models: list[MicroModel], tmp_path: Path) -> None:
    for one in models:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        onnxruntime.InferenceSession(
            quantised(one.model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
        convolutions = sum(node.op_type == "Conv" for node in one.model.graph.node)
        assert kinds.count("QLinearConv") == convolutions, one.name


def test_it_takes_and_gives_what_the_model_does(models: list[MicroModel]) -> None:
    for one in models:
        model = quantised(one.model)
        onnx.checker.check_model(model, full_check=True)
        assert [given.name for given in model.graph.input] == [given.name for given in one.model.graph.input]
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        (features,) = session.run(None, {given.name: np.full(given.shape, 200, np.uint8)})
        expected = one.model.graph.output[0].type.tensor_type.shape.dim
        assert features.shape == tuple(dimension.dim_value for dimension in expected)
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
