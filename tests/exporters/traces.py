"""What would tell of the machine that wrote a file."""

from __future__ import annotations

import getpass
import socket
import sys
from pathlib import Path


def traces_of_this_machine(data: bytes) -> list[str]:
    """Names and paths of this machine and user that lie in ``data``."""
    traces = {str(Path.home()), str(Path.cwd()), sys.prefix, socket.gethostname(), "site-packages", "/tmp"}
    if getpass.getuser() != "root":  # four letters that weights can hold by chance
        traces.add(getpass.getuser())
    return [trace for trace in sorted(traces) if len(trace) > 3 and trace.encode() in data]
