"""What an ONNX file costs, counted on the file itself."""

from .graph_costs import GraphCosts, graph_costs

__all__ = ["GraphCosts", "graph_costs"]
