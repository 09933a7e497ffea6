"""What each runtime takes of a graph, against the mobile usability checker and graphs worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.tools.mobile_helpers.usability_checker import (
    check_coreml_partitions,
    check_nnapi_partitions,
)

from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import InputError, NegativeResult
from privynet.exporters import write_onnx
from privynet.exporters.runtimes import RUNTIMES, check_for, check_runtime, support

WEIGHTS = np.zeros((4, 4, 1, 1), np.float32)


def chain(*operators: str, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Operators one after the other on (1, 4, 8, 8); a ``Conv`` keeps the shape."""
    nodes, last = [], "x"
    for place, kind in enumerate(operators):
        inputs = [last, "w"] if kind == "Conv" else [last]
        attributes = {"to": TensorProto.FLOAT} if kind == "Cast" else {}
        nodes.append(helper.make_node(kind, inputs, [f"t{place}"], name=f"{kind}_{place}", **attributes))
        last = f"t{place}"
    return wrapped(nodes, last, dtype)


def wrapped(nodes: list[onnx.NodeProto], output: str, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, [1, 4, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    "operators",
    (
        ("Conv", "Relu", "Conv"),
        ("Conv", "HardSwish", "Conv", "Mish", "Conv", "Relu"),
        ("Mish", "Conv", "Softplus"),
        ("Conv", "HardSigmoid", "Softplus", "HardSigmoid", "Mish", "Conv"),
    ),
)
def test_partitions_are_those_of_the_usability_checker(operators: tuple[str, ...]) -> None:
    model = chain(*operators)
    found = support(model)
    inferred = onnx.shape_inference.infer_shapes(model)
    official = {
        "nnapi": check_nnapi_partitions(inferred, True),
        "coreml": check_coreml_partitions(inferred, True, "coreml_supported_mlprogram_ops.md"),
    }
    for name, partitioning in official.items():
        assert found[name].partitions == partitioning.num_partitions
        assert found[name].nodes == partitioning.num_supported_nodes
        assert found[name].nodes + len(found[name].unsupported) == len(operators)


def test_branches_are_partitioned_as_the_usability_checker_does_it() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
        helper.make_node("Mish", ["a"], ["b"], name="lacking"),
        helper.make_node("Relu", ["a"], ["c"], name="beside"),
        helper.make_node("Add", ["b", "c"], ["d"], name="joined"),
        helper.make_node("Conv", ["d", "w"], ["y"], name="last"),
    ]
    model = wrapped(nodes, "y")
    official = check_nnapi_partitions(onnx.shape_inference.infer_shapes(model), True)
    found = support(model)["nnapi"]
    assert (found.partitions, found.unsupported, found.supported) == (2, ("lacking",), False)
    assert official.num_partitions == 2


def test_the_camera_s_bytes_stay_on_the_cpu_and_are_not_in_the_way() -> None:
    found = support(chain("Cast", "Conv", "Relu", dtype=TensorProto.UINT8))
    for name in ("nnapi", "coreml"):
        assert found[name].unsupported == ("Cast_0",)
        assert (found[name].supported, found[name].partitions) == (True, 1)
    assert found["cpu"].supported and not found["cpu"].unsupported


def test_what_lies_between_two_convolutions_is_in_the_way_and_named() -> None:
    model = chain("Conv", "HardSwish", "Conv", "Mish")
    with pytest.raises(NegativeResult, match=r"nnapi cannot run 1 of .*: HardSwish_1;"):
        check_for(model, "nnapi")
    # XNNPACK computes in the CPU's memory, so that only the convolutions matter.
    check_for(model, "xnnpack")
    assert support(model)["xnnpack"].unsupported == ("HardSwish_1", "Mish_3")


def test_many_nodes_in_the_way_are_counted() -> None:
    model = chain(*["Conv", "Mish"] * 12, "Conv")
    with pytest.raises(NegativeResult, match=r"12 of the network's nodes: Mish_1, .* and 4 more"):
        check_for(model, "coreml")


def test_xnnpack_takes_an_activation_with_its_convolution_alone() -> None:
    found = support(chain("Relu", "Conv", "Relu", "Relu"))["xnnpack"]
    assert (found.nodes, found.unsupported, found.partitions) == (2, ("Relu_0", "Relu_3"), None)


def test_qnn_takes_products_of_integers() -> None:
    with pytest.raises(NegativeResult, match=r"qnn cannot run 1 of .*--precision int8"):
        check_for(chain("Conv", "Relu"), "qnn")
    constants = [
        numpy_helper.from_array(np.float32(0.1), "s"),
        numpy_helper.from_array(np.uint8(3), "z"),
        numpy_helper.from_array(np.zeros((4, 4, 1, 1), np.uint8), "q"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["a"], name="in"),
        helper.make_node("DequantizeLinear", ["a", "s", "z"], ["b"], name="out"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["v"], name="weights"),
        helper.make_node("Conv", ["b", "v"], ["y"], name="convolution"),
    ]
    model = wrapped(nodes, "y")
    model.graph.initializer.extend(constants)
    del model.graph.initializer[0]
    check_for(model, "qnn")
    assert support(model)["nnapi"].supported and support(model)["xnnpack"].supported
    signed = numpy_helper.from_array(np.zeros((4, 4, 1, 1), np.int8), "q")
    model.graph.initializer[-1].CopyFrom(signed)
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    model.graph.node[2].input[2] = "zero"
    assert support(model)["qnn"].supported and not support(model)["xnnpack"].supported


def test_an_unknown_runtime_is_told() -> None:
    with pytest.raises(InputError, match="did you mean nnapi"):
        check_runtime("nnap")
    for name in RUNTIMES:
        check_runtime(name)


@pytest.mark.parametrize(
    ("backbone", "size", "otherwise"),
    (
        ("bundled", 32, ()),
        ("timm:mobilenetv2_100,pad_type=same", 64, ()),
        ("torchvision:resnet18", 64, ()),
        # Written anew for who asks for the runtime.
        ("torchvision:mobilenet_v3_small", 64, ("nnapi", "coreml")),
    ),
)
def test_encoders_are_for_every_phone(
    backbone: str, size: int, otherwise: tuple[str, ...], tmp_path: Path
) -> None:
    weights = None if backbone == "bundled" else "random"
    splitter = Splitter(load_backbone(parse_backbone(backbone, weights=weights)), size)
    cut = splitter.cuts[len(splitter.cuts) // 2]
    encoder = make_encoder(splitter, cut=cut.name, channels=range(max(1, cut.channels // 2)))
    write_onnx(encoder, tmp_path / "encoder.onnx")
    found = support(onnx.load(tmp_path / "encoder.onnx"))
    assert {name for name in RUNTIMES if not found[name].supported} == {"qnn", *otherwise}
    for name in otherwise:
        write_onnx(encoder, tmp_path / f"{name}.onnx", for_runtime=name)
        written = support(onnx.load(tmp_path / f"{name}.onnx"))[name]
        assert (written.supported, written.partitions) == (True, 1)
