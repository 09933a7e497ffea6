"""How operations are fused into kernels, on graphs worked out by hand."""

from __future__ import annotations

from privynet.encoders import Activation, Convolution, Operation, Work, fuse

SHAPES = {
    "image": (1, 3, 8, 8),
    "a": (1, 16, 8, 8),
    "b": (1, 16, 8, 8),
    "c": (1, 16, 8, 8),
    "d": (1, 16, 8, 8),
    "e": (1, 16, 1, 1),
}
STEM = Convolution(3, 16, 1, (3, 3), (1, 1), 8, 8)
POINT = Convolution(16, 16, 1, (1, 1), (1, 1), 8, 8)


def convolve(shape: Convolution, source: str, made: str) -> Operation:
    return Operation(Work.CONVOLUTION, (source,), (made,), weights=10, convolution=shape)


def test_an_activation_that_alone_reads_a_convolution_is_part_of_it() -> None:
    operations = [
        convolve(STEM, "image", "a"),
        Operation(Work.FUSABLE_ACTIVATION, ("a",), ("b",), activation=Activation.CURVE),
        convolve(POINT, "b", "c"),
    ]
    first, second = fuse(operations, SHAPES, ["c"])
    assert (first.kind, second.kind) == ("conv3x3s1", "pointwise")
    assert (first.macs, second.macs) == (16 * 64 * 27, 16 * 64 * 16)
    assert first.activated_elements == 16 * 64
    # Between convolutions nothing is copied; the output is.
    assert (first.reorders, second.reorders) == (0, 1)


def test_an_activation_of_what_others_read_too_is_a_kernel() -> None:
    operations = [
        convolve(STEM, "image", "a"),
        Operation(Work.FUSABLE_ACTIVATION, ("a",), ("b",)),
        Operation(Work.ADDITION, ("a", "b"), ("c",)),
    ]
    assert [kernel.kind for kernel in fuse(operations, SHAPES, ["c"])] == [
        "conv3x3s1",
        "elementwise",
        "elementwise",
    ]


def test_a_view_is_no_kernel_and_does_not_hide_who_reads() -> None:
    operations = [
        convolve(STEM, "image", "a"),
        Operation(Work.VIEW, ("a",), ("b",)),
        Operation(Work.FUSABLE_ACTIVATION, ("b",), ("c",)),
    ]
    (kernel,) = fuse(operations, SHAPES, ["c"])
    assert kernel.kind == "conv3x3s1"


def test_a_gate_copies_what_passes_between_convolutions_and_it() -> None:
    operations = [
        convolve(STEM, "image", "a"),
        Operation(Work.MEAN, ("a",), ("e",)),
        Operation(Work.ELEMENTWISE, ("a", "e"), ("b",)),
        convolve(POINT, "b", "c"),
    ]
    stem, mean, gate, last = fuse(operations, SHAPES, ["c"])
    assert (stem.reorders, mean.reorders, gate.reorders, last.reorders) == (0, 1, 0, 2)
    assert mean.reordered_elements == 16 * 64  # once, though the gate reads it too
    assert last.reordered_elements == 2 * 16 * 64  # its input, and the graph's output


def test_what_prepares_an_image_is_told_apart() -> None:
    shapes = {**SHAPES, "pixels": (1, 8, 8, 3)}
    operations = [
        Operation(Work.MOVE, ("pixels",), ("image",)),
        Operation(Work.ELEMENTWISE, ("image",), ("image",)),
        convolve(STEM, "image", "a"),
    ]
    assert [kernel.kind for kernel in fuse(operations, shapes, ["a"])][:2] == ["image", "image"]


def test_a_small_map_is_no_image() -> None:
    """However narrow: what tells an image is that it comes from the graph's input."""
    shapes = {**SHAPES, "b": (1, 16, 4, 4), "c": (1, 16, 4, 4), "d": (1, 16, 4, 4)}
    halving = Convolution(3, 16, 1, (3, 3), (2, 2), 4, 4)
    point = Convolution(16, 16, 1, (1, 1), (1, 1), 4, 4)
    operations = [
        convolve(halving, "image", "b"),
        Operation(Work.ELEMENTWISE, ("b",), ("c",)),
        convolve(point, "c", "d"),
    ]
    _, scaled, last = fuse(operations, shapes, ["d"])
    assert scaled.kind == "elementwise"
    assert (scaled.reorders, last.reorders) == (1, 2)


def test_convolutions_are_of_the_kind_that_runtimes_have() -> None:
    kinds = {
        (16, 16, 1, (3, 3), (1, 1)): "conv3x3s1",
        (16, 16, 1, (3, 3), (2, 2)): "conv",
        (16, 16, 1, (5, 5), (1, 1)): "conv",
        (16, 16, 1, (1, 1), (2, 2)): "pointwise",
        (16, 16, 16, (3, 3), (1, 1)): "depthwise",
        (16, 32, 16, (3, 3), (1, 1)): "depthwise",
        (16, 16, 4, (3, 3), (1, 1)): "grouped",
    }
    assert {shape: Convolution(*shape, 8, 8).kind for shape in kinds} == kinds
