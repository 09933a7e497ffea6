"""Graphs that nobody should load: refused with a finding, in bounded time and memory."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from privynet.exporters import verify

from .hostile import checked_within_limits, forged, reseal

Change = Callable[[onnx.ModelProto], None]


def findings(artifact: Path) -> list[tuple[str, str, str]]:
    found = verify(artifact, without_torch=True)
    assert found["parity"] == "not_run"
    return [(one["code"], one["file"], one["message"]) for one in found["findings"]]


def before_the_output(*made: onnx.NodeProto) -> Change:
    """Put nodes between the graph and its output: from ``inner`` to the output's name."""

    def change(model: onnx.ModelProto) -> None:
        name = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["inner" if one == name else one for one in node.output]
        for node in made:
            node.output[:] = [name if one == "OUT" else one for one in node.output]
        model.graph.node.extend(made)

    return change


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


def reshaped_by_values(model: onnx.ModelProto) -> None:
    """A shape that depends on the image."""
    nodes = [
        helper.make_node("ReduceMax", ["inner"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["number"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["number", "zeroth"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["inner", "zero"], ["OUT"]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zeroth"))
    before_the_output(*nodes)(model)


def huge_constant(model: onnx.ModelProto) -> None:
    """A terabyte of zeros, summed up: ONNX Runtime computes what is constant when it loads a graph."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["inner", "zero"], ["OUT"]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**38]), "size"))
    before_the_output(*nodes)(model)


def cycle(model: onnx.ModelProto) -> None:
    before_the_output(helper.make_node("Add", ["inner", "later"], ["OUT"]))(model)
    model.graph.node.append(helper.make_node("Relu", [model.graph.output[0].name], ["later"]))


def missing_value(model: onnx.ModelProto) -> None:
    before_the_output(helper.make_node("Add", ["inner", "nothing"], ["OUT"]))(model)


def other_types(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.int64), "one"))
    before_the_output(helper.make_node("Add", ["inner", "one"], ["OUT"]))(model)


def no_groups(model: onnx.ModelProto) -> None:
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    kept = [one for one in convolution.attribute if one.name != "group"]
    del convolution.attribute[:]
    convolution.attribute.extend([*kept, helper.make_attribute("group", 0)])


def no_strides(model: onnx.ModelProto) -> None:
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    kept = [one for one in convolution.attribute if one.name != "strides"]
    del convolution.attribute[:]
    convolution.attribute.extend([*kept, helper.make_attribute("strides", [0, 0])])


def slice_of_less_than_nothing(model: onnx.ModelProto) -> None:
    """onnx 1.23 ends its process on it: its shape inference asserts that a dimension is not negative."""
    numbers = {
        "pads": [0, 0, 0, 0, 0, 0, 0, -(2**63)],
        "first": [0],
        "end": [2**63 - 1],
        "axis": [3],
        "step": [2],
    }
    for name, values in numbers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    nodes = [
        helper.make_node("Pad", ["inner", "pads"], ["less"]),
        helper.make_node("Slice", ["less", "first", "end", "axis", "step"], ["OUT"]),
    ]
    before_the_output(*nodes)(model)


def many_in_a_row(model: onnx.ModelProto) -> None:
    """As deep as a graph may be."""
    names = ["inner", *(f"deep_{number}" for number in range(15_000)), "OUT"]
    nodes = [helper.make_node("Relu", [one], [other]) for one, other in itertools.pairwise(names)]
    before_the_output(*nodes)(model)


FAILS_WHEN_RUN: dict[str, tuple[Change, str]] = {
    "a shape that depends on the image": (reshaped_by_values, "no fixed shape"),
    "a terabyte of zeros": (huge_constant, ""),
    "a cycle": (cycle, ""),
    "a value that is not there": (missing_value, ""),
    "types that do not fit": (other_types, ""),
    "a convolution without groups": (no_groups, ""),
    "a convolution without strides": (no_strides, ""),
    "a slice of less than nothing": (
        slice_of_less_than_nothing,
        "crashes what loads it (SIGABRT)|has shapes",
    ),
}


@pytest.mark.parametrize("case", FAILS_WHEN_RUN)
def test_a_graph_that_cannot_run_is_refused_within_limits(small: Path, tmp_path: Path, case: str) -> None:
    change, message = FAILS_WHEN_RUN[case]
    found = checked_within_limits(forged(small, tmp_path, change))["findings"]
    assert [(one["code"], one["file"]) for one in found] == [("graph", "encoder.onnx")]
    assert any(part in found[0]["message"] for part in message.split("|")), found


def test_a_graph_as_deep_as_allowed_is_answered_within_limits(small: Path, tmp_path: Path) -> None:
    found = checked_within_limits(forged(small, tmp_path, many_in_a_row))["findings"]
    assert {one["code"] for one in found} <= {"selftest", "graph"}


def tag(number: int, body: bytes) -> bytes:
    size, written = len(body), bytearray([number << 3 | 2])
    while size >= 0x80:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*written, size]) + body


def nested(depth: int) -> bytes:
    """A node whose attribute holds a graph with a node whose attribute …"""
    body = b""
    for _ in range(depth):
        body = tag(1, tag(5, tag(6, body)))
    return body


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a million nodes": (lambda data: tag(7, tag(1, tag(4, b"Relu")) * 1_000_000), "more than 20000 nodes"),
    "a million initialisers": (
        lambda data: tag(7, tag(5, tag(8, b"name")) * 1_000_000),
        "more than 20000 initialisers",
    ),
    "a million fields": (lambda data: data + b"\x08\x0a" * 1_000_000, "more than 500000 fields"),
    "a million inputs of a node": (
        lambda data: tag(7, tag(1, tag(1, b"x") * 1_000_000)),
        "a node of more than",
    ),
    "a million values beside": (
        lambda data: tag(7, tag(13, tag(1, b"x" * 20)) * 400_000),
        "beside its weights",
    ),
    "deep nesting": (lambda data: tag(7, nested(5000)), "no ONNX file|a node of more than"),
    "a little deep nesting": (lambda data: tag(7, nested(60)), ""),
    "two graphs": (lambda data: data + tag(7, b""), "2 graphs"),
    "no graph": (lambda data: b"\x08\x0a", "0 graphs"),
    "nothing": (lambda data: b"", "is empty"),
    "text": (lambda data: b"no graph at all", "no ONNX file"),
    "half of it": (lambda data: data[: len(data) // 2], "cut off"),
    "a size beyond the end": (lambda data: bytes([7 << 3 | 2, *b"\xff" * 9, 1]), "cut off"),
    "a number without end": (lambda data: b"\x08" + b"\xff" * 100, "cut off"),
    "a name that is no text": (lambda data: data.replace(b"Conv_", b"\xffonv_", 1), "has a name that"),
    "an operator that is no text": (
        lambda data: data.replace(b"Conv", b"\xffonv", 1),
        "has a name|has a op_type",
    ),
    "values twice": (
        lambda data: tag(7, tag(5, tag(9, bytes(5000)) + tag(9, bytes(5000)))),
        "values twice",
    ),
}


@pytest.mark.parametrize("case", BYTES)
def test_a_file_that_is_too_much_or_no_onnx_is_refused_within_limits(
    small: Path, tmp_path: Path, case: str
) -> None:
    change, message = BYTES[case]
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    (copy / "encoder.onnx").write_bytes(change((copy / "encoder.onnx").read_bytes()))
    reseal(copy)
    found = checked_within_limits(copy)["findings"]
    assert {(one["code"], one["file"]) for one in found} == {("graph", "encoder.onnx")}
    assert any(part in found[0]["message"] for part in message.split("|")), found


def test_a_huge_file_with_nothing_in_it_is_refused_within_limits(small: Path, tmp_path: Path) -> None:
    """A gigabyte that takes no room on the disk."""
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    with (copy / "encoder.onnx").open("wb") as stream:
        stream.truncate(2**30)
    reseal(copy)
    (found,) = checked_within_limits(copy)["findings"]
    assert (found["code"], found["file"]) == ("graph", "encoder.onnx")


def at_black(*made: onnx.NodeProto) -> Change:
    """Nodes that read ``black``: int64 1 where the centre of the image is 0, else 0."""

    def change(model: onnx.ModelProto) -> None:
        ends = {
            "starts": [0, 16, 16, 0],
            "ends": [1, 17, 17, 1],
            "one": [1],
            "zero": [0],
            "least": [-(2**63)],
        }
        model.graph.initializer.extend(
            numpy_helper.from_array(np.array(values, np.int64), name) for name, values in ends.items()
        )
        chosen = [
            helper.make_node("Slice", ["images", "starts", "ends"], ["centre"]),
            helper.make_node("Cast", ["centre"], ["value"], to=TensorProto.INT64),
            helper.make_node("Equal", ["value", "zero"], ["is_black"]),
            helper.make_node("Cast", ["is_black"], ["black"], to=TensorProto.INT64),
        ]
        before_the_output(*made)(model)
        nodes = [*chosen, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    return change


CRASHES = at_black(
    helper.make_node("Mul", ["black", "least"], ["numerator"]),
    helper.make_node("Sub", ["zero", "black"], ["minus"]),
    helper.make_node("Sub", ["one", "black"], ["rest"]),
    helper.make_node("Add", ["minus", "rest"], ["divisor"]),
    helper.make_node("Div", ["numerator", "divisor"], ["quotient"]),
    helper.make_node("Mul", ["quotient", "zero"], ["nothing"]),
    helper.make_node("Cast", ["nothing"], ["added"], to=TensorProto.FLOAT),
    helper.make_node("Add", ["inner", "added"], ["OUT"]),
)
"""-2^63 / -1, which processors do not survive."""
FAILS = at_black(
    helper.make_node("Sub", ["one", "black"], ["divisor"]),
    helper.make_node("Mod", ["one", "divisor"], ["remainder"]),
    helper.make_node("Cast", ["remainder"], ["added"], to=TensorProto.FLOAT),
    helper.make_node("Add", ["inner", "added"], ["OUT"]),
)
LEAKS = at_black(
    helper.make_node("Cast", ["black"], ["added"], to=TensorProto.FLOAT),
    helper.make_node("Add", ["inner", "added"], ["OUT"]),
)


def without_black(artifact: Path) -> None:
    """Leave the self-test nothing but images whose centre is not black."""
    with np.load(artifact / "selftest.npz") as archive:
        rows = dict(archive)
    kept = rows["images"][:, 16, 16, 0] > 0
    assert kept.any()
    np.savez(
        artifact / "selftest.npz",
        **{name: array[kept] if array.ndim else array for name, array in rows.items()},
    )
    reseal(artifact)


@pytest.mark.parametrize(
    ("change", "message"),
    [(CRASHES, "crashes what loads it"), (FAILS, "encoder.onnx"), (LEAKS, "differs from torch")],
)
def test_what_a_graph_does_with_images_that_no_self_test_holds_is_found(
    small: Path, tmp_path: Path, change: Change, message: str
) -> None:
    copy = forged(small, tmp_path, change)
    without_black(copy)
    found = [one for one in verify(copy)["findings"] if one["severity"] == "error"]
    assert any(message in (one["file"], one["message"]) or message in one["message"] for one in found), found
