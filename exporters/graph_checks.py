"""What the graph of an artifact may be, told without loading it: no runtime sees what is not found here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import Manifest, TensorInfo
from ..errors import one_line
from .allowed_operators import OPERATORS
from .outline import NoOutline, Outline, read_outline

if TYPE_CHECKING:
    import onnx

_MOST_FAULTS = 8
_MOST_ELEMENTS = 2**31
_MOST_AXES = 8
_SIMPLE = re.compile(r"[!-.0-\[\]-~]{0,200}")
"""Printable ASCII without space, slash and backslash: room for no path and no sentence."""
_DESCRIPTIONS = ("denotation", "doc_string", "metadata_props")
_NOT_SHOWN = ("external_data", "raw_data", "string_data")
"""Values, or refused for what they are."""
_BYTES_OF = {"FLOAT": 4, "UINT8": 1, "INT8": 1, "INT32": 4, "INT64": 8, "BOOL": 1}
_DTYPES = {"FLOAT": "float32", "UINT8": "uint8"}


def graph_faults(model: Path, manifest: Manifest) -> list[str]:
    """Why an ONNX file cannot be the graph of an artifact with this manifest, the first few reasons.

    In bounded time and memory for any file.
    """
    try:
        outline = read_outline(model)
    except NoOutline as error:
        return [str(error)]
    return list(islice(_faults(outline, manifest), _MOST_FAULTS))


def _faults(outline: Outline, manifest: Manifest) -> Iterator[str]:
    model = outline.model
    graph = model.graph
    told = dict(_texts(model))
    if told:
        # Before any of them is shown.
        name, text = next(iter(told.items()))
        yield f"has a {name} that it should not have: {one_line(text, most=80)}"
        return
    opsets = [(one.domain or "ai.onnx", one.version) for one in model.opset_import]
    if opsets != [("ai.onnx", manifest.opset)]:
        shown = ", ".join(f"{domain} {version}" for domain, version in opsets[:4])
        yield f"has opsets {one_line(shown, most=100)}, the manifest says {manifest.opset}"
    if model.functions or model.training_info or model.configuration:
        yield "defines functions, training or devices"
    if graph.sparse_initializer or graph.quantization_annotation:
        yield "has sparse initialisers or annotations"
    for node in graph.node:
        yield from _node_faults(node)
    for place, tensor in enumerate(graph.initializer):
        yield from _tensor_faults(tensor, outline.left_out.get(place))
    names = [tensor.name for tensor in graph.initializer]
    if len(set(names)) != len(names) or not set(names).isdisjoint(value.name for value in graph.input):
        yield "has initialisers that are told twice, or can be fed"
    wanted = [manifest.input] if manifest.noise is None else [manifest.input, manifest.noise]
    yield from _ends("inputs", graph.input, wanted)
    yield from _ends("outputs", graph.output, [manifest.output])


def _texts(message: Any) -> Iterator[tuple[str, str]]:
    """Every text in a message that says anything but what is computed: documentation, paths, sentences.

    Its field and itself, as Python writes it.
    """
    for field, value in message.ListFields():
        texts = field.type in (field.TYPE_STRING, field.TYPE_BYTES, field.TYPE_MESSAGE)
        if not texts or field.name in _NOT_SHOWN:
            continue
        for one in [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value:
            if field.name in _DESCRIPTIONS and one:
                yield field.name, repr(one)
            elif field.type == field.TYPE_MESSAGE:
                yield from _texts(one)
            else:
                # A string that is no UTF-8 comes as bytes.
                text = one if isinstance(one, str) else one.decode("latin-1")
                if not _SIMPLE.fullmatch(text):
                    yield field.name, repr(text)


def _node_faults(node: onnx.NodeProto) -> Iterator[str]:
    shown = one_line(f"{node.domain}.{node.op_type}" if node.domain else node.op_type, most=80)
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
        yield f"uses the operator {shown}, which no artifact may"
    if node.overload or node.device_configurations:
        yield f"has an operator {shown} that is bound to a function or a device"
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs or attribute.HasField("sparse_tensor"):
            yield f"has an operator {shown} with a subgraph or a sparse tensor"
        if attribute.ref_attr_name or attribute.HasField("tp") or attribute.type_protos:
            yield f"has an operator {shown} with an attribute of a function"
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            yield from _tensor_faults(tensor, None)


def _tensor_faults(tensor: onnx.TensorProto, left_out: int | None) -> Iterator[str]:
    """``left_out``: how many bytes of values the file has, where the outline has none of them."""
    import onnx

    shown = f"the tensor {one_line(tensor.name, most=80)!r}"
    if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
        yield f"keeps {shown} in another file"
        return
    kind = _name_of(tensor.data_type)
    if kind not in _BYTES_OF or tensor.HasField("segment") or tensor.string_data:
        yield f"has {shown} of a type that no artifact has"
        return
    if len(tensor.dims) > _MOST_AXES or any(size < 0 for size in tensor.dims):
        yield f"has {shown} of a shape that no tensor has"
        return
    elements = math.prod(tensor.dims)
    listed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    there = [len(values) for values in listed if values]
    raw = len(tensor.raw_data) if left_out is None else left_out
    if raw:
        there.append(raw // _BYTES_OF[kind] if raw % _BYTES_OF[kind] == 0 else -1)
    if elements > _MOST_ELEMENTS or (there or [0]) != [elements]:
        yield f"has {shown} of other size than its values"


def _ends(what: str, values: Iterable[onnx.ValueInfoProto], wanted: list[TensorInfo]) -> Iterator[str]:
    """Whether the graph's inputs or outputs are those of the manifest, all of fixed shape."""
    found = [(value.name, *_type_of(value)) for value in values]
    told = [(one.name, one.dtype, one.shape) for one in wanted]
    if found != told:
        first = ", ".join(one_line(f"{name} {dtype} {shape}", most=80) for name, dtype, shape in found[:4])
        expected = ", ".join(f"{name} {dtype} {shape}" for name, dtype, shape in told)
        yield f"has {what} {first or 'none'}; the manifest says {expected}"


def _type_of(value: onnx.ValueInfoProto) -> tuple[str, tuple[int | None, ...]]:
    """A value's type and shape; ``None`` for a dimension that is not fixed."""
    tensor = value.type.tensor_type
    shape = tuple(
        dimension.dim_value if dimension.HasField("dim_value") else None for dimension in tensor.shape.dim
    )
    kind = _name_of(tensor.elem_type)
    return _DTYPES.get(kind, kind), shape


def _name_of(data_type: int) -> str:
    import onnx

    known: dict[int, str] = {number: name for name, number in onnx.TensorProto.DataType.items()}
    return known.get(data_type, "?")
