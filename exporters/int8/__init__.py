"""Encoders in integers of 8 bits: grids from sample images, the graph on them, and what that costs in signal.

Activations are uint8, weights int8 with a scale for each channel, biases int32, as static quantisation with
QuantizeLinear and DequantizeLinear, which every runtime's compiler fuses into integer kernels.
"""

from .choosing import Judge, in_int8
from .exporting import float_graph, int8_graph
from .writing import int8_session, write_int8

__all__ = ["Judge", "float_graph", "in_int8", "int8_graph", "int8_session", "write_int8"]
