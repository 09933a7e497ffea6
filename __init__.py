"""privynet: encoders that run on the device, so that raw images never leave it.

One function a verb, in the room that does the work: ``privynet.search.search``,
``privynet.exporters.export`` and ``verify``, ``privynet.device_profiles.bench``, ``privynet.cloud.encode``,
``train_head`` and ``evaluate``, ``privynet.leakage.audit``.
"""

import os
from importlib.metadata import version

# From 1.29 on ONNX Runtime's builds report each process and model to its maker, and keep an identifier of the
# machine in the user's cache folder, unless told not to before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = version("privynet")
