"""From what the user wrote to the target that is meant."""

from __future__ import annotations

import re

from ...errors import InputError
from .address import read_host
from .local import LocalTarget
from .target import Target

ALLOWED = "allowed: local, ssh://USER@HOST[:PORT], adb://SERIAL"
# None of them may look like an option to a program that it is handed to.
_USER = re.compile(r"[\w.+][\w.+-]*", re.ASCII)
_ADB = re.compile(r"(?P<serial>\w[\w.:-]*)/?", re.ASCII)


def open_target(on: str, *, python: str | None = None, accept_new_host_key: bool = False) -> Target:
    """The target of ``local``, ``ssh://[USER@]HOST[:PORT]`` or ``adb://SERIAL``, not yet entered.

    ``python``: the Python there that runs the agent, by name or path (default: the one that runs this, or the
    first that is found); ``accept_new_host_key``: learn the key of an SSH host that is not known. Raises
    :class:`InputError` for anything else, and for a client that is not installed.
    """
    if on == "local":
        return LocalTarget(python=python)
    kind, _, place = on.partition("://")
    if kind == "ssh":
        from .ssh import SshTarget

        user, at, address = place.rpartition("@")
        found_host = read_host(address)
        if found_host and (not at or _USER.fullmatch(user)):
            host, port = found_host
            return SshTarget(
                on.rstrip("/"),
                host=host,
                user=user or None,
                port=port,
                python=python,
                accept_new_host_key=accept_new_host_key,
            )
    if kind == "adb" and (found := _ADB.fullmatch(place)):
        from .adb import AdbTarget

        return AdbTarget(on.rstrip("/"), serial=found["serial"], python=python)
    raise InputError(f"cannot measure on {on!r}", hint=ALLOWED)
