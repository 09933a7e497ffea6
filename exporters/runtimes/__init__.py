"""What the runtimes of phones and boards take of an exported graph, by what their documentation says.

``support`` asks all of them about one graph. Nothing is run here: ONNX Runtime's providers for phones exist
on phones alone, so this is what is documented, not what was tried.
"""

from .support import RUNTIMES, Support, check_for, check_runtime, support

__all__ = ["RUNTIMES", "Support", "check_for", "check_runtime", "support"]
