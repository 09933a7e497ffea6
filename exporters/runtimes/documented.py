"""What each runtime's documentation says it takes, node by node.

| runtime | source |
|---|---|
| NNAPI | the table of ONNX Runtime's mobile usability checker, of the release that is installed |
| CoreML | the same, for ML Programs |
| XNNPACK | onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html, read November 2026 |
| QNN | the page of github.com/onnxruntime/onnxruntime-qnn, docs/execution_providers, read then too |

The checker (``onnxruntime.tools.mobile_helpers``) looks at operators and ranks, and lists the tables' other
conditions as caveats. Those of the operators that encoders use are looked at here, and three that the
providers' sources have: NNAPI and CoreML take no uint8 image and no cast to uint8, XNNPACK no product of
unsigned with signed integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .graph import PRODUCTS, Graph, attribute, flat

if TYPE_CHECKING:
    import onnx

_POOLS = frozenset({"AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"})
_QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_XNNPACK = frozenset(
    {"AveragePool", "Conv", "ConvTranspose", "MaxPool", "Softmax", "Resize", "Gemm", "MatMul"}
)
_FUSED_BY_XNNPACK = frozenset({"Relu", "Clip"})
_FUSED_WITH = frozenset({"Conv", "MaxPool", "AveragePool"})
_QNN = frozenset(
    """Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Ceil Clip Concat Conv
    ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div Einsum Elu Equal Exp Expand Flatten Floor
    Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
    GridSample GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mod Mul Neg Not Or PRelu Pad Pow
    QuantizeLinear Reciprocal ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    Relu Reshape Resize Round Selu Sigmoid Sign Sin Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub
    Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Upsample Where Xor""".split()  # noqa: SIM905
)


def taken_by_nnapi(graph: Graph) -> set[int]:
    """The places of the nodes that NNAPI takes."""
    import onnx
    from onnxruntime.tools.mobile_helpers.usability_checker import check_nnapi_partitions

    targets = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT32)

    def fits(node: onnx.NodeProto) -> bool:
        return (
            _reads_floats(graph, node)
            and (node.op_type != "Cast" or attribute(node, "to", 0) in targets)
            and (node.op_type != "Pad" or _is_plain_pad(graph, node))
            and (node.op_type != "Gather" or graph.is_constant(node.input[1]))
            and (node.op_type != "Split" or _is_even_split(graph, node))
            and _is_flat(graph, node)
        )

    return _taken(graph, check_nnapi_partitions(graph.model, True), fits)


def taken_by_coreml(graph: Graph) -> set[int]:
    """The places of the nodes that CoreML takes as an ML Program."""
    import onnx
    from onnxruntime.tools.mobile_helpers.usability_checker import check_coreml_partitions

    def fits(node: onnx.NodeProto) -> bool:
        fixed = [name for name in node.input[1:] if name] if node.op_type in ("Slice", "Split") else []
        to_bytes = node.op_type == "Cast" and attribute(node, "to", 0) == onnx.TensorProto.UINT8
        return (
            _reads_floats(graph, node)
            and all(map(graph.is_constant, fixed))
            and not to_bytes
            and _is_flat(graph, node, ranks=(3, 4))
        )

    tables = "coreml_supported_mlprogram_ops.md"
    return _taken(graph, check_coreml_partitions(graph.model, True, tables), fits)


def taken_by_xnnpack(graph: Graph) -> set[int]:
    """The places of the nodes that XNNPACK takes; an activation only with the node that it is fused into."""
    taken: set[int] = set()
    for place, node in enumerate(graph.nodes):
        if node.domain or not node.input:
            continue
        if node.op_type in _FUSED_BY_XNNPACK:
            if any(at in taken and graph.nodes[at].op_type in _FUSED_WITH for at in graph.producers(place)):
                taken.add(place)
        elif (
            node.op_type in _XNNPACK
            and _is_flat(graph, node)
            and _has_two_axes(graph, node)
            # A product of integers, only of such that are both signed or both not.
            and (node.op_type not in PRODUCTS or len(set(map(graph.integers, node.input[:2]))) == 1)
        ):
            taken.add(place)
    return taken


def taken_by_qnn(graph: Graph) -> set[int]:
    """The places of the nodes that QNN takes on its NPU: those of its table, products of integers only.

    The page now says that float32 runs in half precision; earlier it said that it does not run at all.
    """
    taken = set()
    for place, node in enumerate(graph.nodes):
        quantised = node.op_type not in PRODUCTS or all(map(graph.is_dequantised, node.input[:2]))
        positive = node.op_type != "Gather" or all(
            index >= 0 for index in flat(graph.constant(node.input[1])) or [-1]
        )
        if not node.domain and node.op_type in _QNN and quantised and positive:
            taken.add(place)
    return taken


def _taken(graph: Graph, partitions: Any, fits: Callable[[onnx.NodeProto], bool]) -> set[int]:
    """The nodes that the mobile usability checker found, a ``PartitioningInfo``, and that fit."""
    listed = {node.output[0] for group in partitions.supported_groups for node in group}
    return {place for place, node in enumerate(graph.nodes) if node.output[0] in listed and fits(node)}


def _reads_floats(graph: Graph, node: onnx.NodeProto) -> bool:
    return node.op_type in _QUANTISING or graph.is_float(node.input[0])


def _is_flat(graph: Graph, node: onnx.NodeProto, ranks: tuple[int, ...] = (4,)) -> bool:
    """Whether pooling is over two axes, and a convolution of such a rank, with constant weights and bias."""
    if node.op_type in _POOLS:
        return len(graph.shape(node.input[0])) == 4
    if node.op_type not in ("Conv", "ConvTranspose"):
        return True
    return len(graph.shape(node.input[0])) in ranks and all(
        graph.is_constant(name) for name in node.input[1:] if name
    )


def _has_two_axes(graph: Graph, node: onnx.NodeProto) -> bool:
    return node.op_type not in ("Gemm", "MatMul") or len(graph.shape(node.input[0])) == 2


def _is_plain_pad(graph: Graph, node: onnx.NodeProto) -> bool:
    pads = graph.constant(node.input[1])
    filled = len(node.input) < 3 or not node.input[2] or graph.is_constant(node.input[2])
    return (
        attribute(node, "mode", "constant") == "constant"
        and filled
        and pads is not None
        and all(pad >= 0 for pad in flat(pads))
    )


def _is_even_split(graph: Graph, node: onnx.NodeProto) -> bool:
    axis = attribute(node, "axis", 0)
    return len({graph.shape(name)[axis] for name in node.output}) == 1
