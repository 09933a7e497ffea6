"""What an ONNX file costs, counted on the file itself."""

from .graph_costs import graph_costs, model_costs

__all__ = ["graph_costs", "model_costs"]
