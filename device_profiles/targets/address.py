"""A host as it is written in a target, and in OpenSSH's ProxyJump."""

from __future__ import annotations

import re

# A host must not look like an option to a program that it is handed to.
_HOST = re.compile(r"(?P<host>\w[\w.-]*|\[[\w:.%]+\])(?::(?P<port>\d+))?/?", re.ASCII)
_MOST_PORTS = 65535


def read_host(text: str) -> tuple[str, int | None] | None:
    """Host and port of ``HOST[:PORT]``, an IPv6 address being in brackets; ``None`` for anything else."""
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port <= _MOST_PORTS:
        return None
    return found["host"].strip("[]"), port
