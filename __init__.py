"""privynet: encoders that run on the device, so that raw images never leave it.

One function a verb, in the room that does the work: ``privynet.search.search``,
``privynet.exporters.export`` and ``verify``, ``privynet.device_profiles.bench``, ``privynet.cloud.encode``,
``train_head`` and ``evaluate``, ``privynet.leakage.audit``.
"""

from importlib.metadata import version

__version__ = version("privynet")
