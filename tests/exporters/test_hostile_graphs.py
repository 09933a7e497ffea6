"""Graphs that nobody should load: refused by their looks, with a finding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from privynet.exporters import verify

from .hostile import Change, before_the_output, forged


def findings(artifact: Path) -> list[tuple[str, str, str]]:
    found = verify(artifact, without_torch=True)
    assert found["parity"] == "not_run"
    return [(one["code"], one["file"], one["message"]) for one in found["findings"]]


def custom_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("evil", 1))
    before_the_output(helper.make_node("Run", ["inner"], ["OUT"], domain="evil"))(model)


def contrib_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    before_the_output(helper.make_node("Gelu", ["inner"], ["OUT"], domain="com.microsoft"))(model)


def unused_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def random_operator(model: onnx.ModelProto) -> None:
    before_the_output(helper.make_node("RandomNormalLike", ["inner"], ["OUT"]))(model)


def subgraph(model: onnx.ModelProto) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["one"])],
        "branch",
        [],
        [helper.make_tensor_value_info("one", TensorProto.FLOAT, None)],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    node = helper.make_node("If", ["yes"], ["OUT"], then_branch=branch, else_branch=branch)
    before_the_output(node)(model)


def subgraph_of_an_allowed_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", onnx.GraphProto(name="body")))


def function(model: onnx.ModelProto) -> None:
    model.functions.append(
        helper.make_function(
            "evil", "Run", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], model.opset_import
        )
    )


def external_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def external_data_of_a_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["unused"], value=tensor))


def huge_initialiser(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend([2**20, 2**20])


def negative_initialiser(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -1


def strings(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [1], [b"hello"]))


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "values")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2**40]))


def feedable(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def another_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 19


def metadata(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="built", value="2026-01-01")


def node_metadata(model: onnx.ModelProto) -> None:
    model.graph.node[0].metadata_props.add(key="stack", value="File network.py")


def documentation(model: onnx.ModelProto) -> None:
    model.graph.node[0].doc_string = "made by me"


def path_as_name(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "/home/me/network.py"


def path_as_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("where", "/home/me"))


def path_as_dimension(model: onnx.ModelProto) -> None:
    shape = [1, "/home/me/size"]
    model.graph.value_info.append(helper.make_tensor_value_info("value_0", TensorProto.FLOAT, shape))


def free_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"


def another_shape(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value += 1


def another_output(model: onnx.ModelProto) -> None:
    before_the_output(helper.make_node("Identity", ["inner"], ["OUT"]))(model)
    model.graph.output.append(helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 8, 16, 16]))


def unknown_field(model: onnx.ModelProto) -> None:
    model.graph.MergeFromString(bytes([0xF8, 0x3F, 1]))


REFUSED_BY_LOOKS: dict[str, tuple[Change, str]] = {
    "a custom operator": (custom_operator, "opsets|evil.Run"),
    "a contrib operator": (contrib_operator, "com.microsoft"),
    "a domain that is not used": (unused_domain, "opsets"),
    "a random operator": (random_operator, "RandomNormalLike, which no artifact may"),
    "a subgraph": (subgraph, "operator If"),
    "a subgraph where none can be": (subgraph_of_an_allowed_operator, "with a subgraph"),
    "a function": (function, "functions"),
    "external data": (external_data, "in another file"),
    "external data of a constant": (external_data_of_a_constant, "in another file"),
    "a huge initialiser": (huge_initialiser, "of other size than its values"),
    "a negative size": (negative_initialiser, "of a shape that no tensor has"),
    "strings": (strings, "of a type that no artifact has"),
    "a sparse initialiser": (sparse, "sparse"),
    "an initialiser that can be fed": (feedable, "can be fed"),
    "an initialiser told twice": (twice, "told twice"),
    "another opset": (another_opset, "opsets ai.onnx 19, the manifest says 20"),
    "metadata": (metadata, "has a metadata_props that it should not have"),
    "metadata of a node": (node_metadata, "has a metadata_props"),
    "documentation": (documentation, "has a doc_string"),
    "a path as a name": (path_as_name, "has a name that it should not have: '/home/me"),
    "a path as an attribute": (path_as_attribute, "has a s that"),
    "a path as a dimension": (path_as_dimension, "has a dim_param that"),
    "a free batch": (free_batch, "has inputs"),
    "another output shape": (another_shape, "has outputs"),
    "one more output": (another_output, "has outputs"),
    "an unknown field": (unknown_field, "fields that ONNX has not"),
}


@pytest.mark.parametrize("case", REFUSED_BY_LOOKS)
def test_a_graph_that_looks_wrong_is_refused_and_not_loaded(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    change, message = REFUSED_BY_LOOKS[case]
    copy = forged(small, tmp_path, change)
    # A process that cannot start would be an error, not a finding.
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    found = findings(copy)
    assert {(code, file) for code, file, _ in found} == {("graph", "encoder.onnx")}
    assert any(part in found[0][2] for part in message.split("|")), found
