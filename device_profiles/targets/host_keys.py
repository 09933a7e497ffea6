"""Which hosts are known, as OpenSSH keeps them: unknown ones are refused or learnt, changed ones refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError

if TYPE_CHECKING:
    import asyncssh

USER_FILE = "~/.ssh/known_hosts"
GLOBAL_FILE = "/etc/ssh/ssh_known_hosts"
_DEFAULT_PORT = 22
_TOKEN = re.compile("%.?")


class HostKeys:
    """The known hosts of some files, and the verdict on a host that is none of them.

    ``user_files``: as ssh's configuration names them for ``host``; in the first of them new ones are kept.
    ``global_files``: the system's. Raises :class:`InputError` for one that cannot be found or read.
    """

    def __init__(
        self, user_files: Sequence[str], global_files: Sequence[str], *, host: str, accept_new: bool
    ) -> None:
        import asyncssh

        self._files = [_path(file, host) for file in user_files]
        self._accept_new = accept_new
        self._accepted: tuple[str, asyncssh.SSHKey] | None = None
        self.refusal: InputError | None = None
        texts = []
        for file in (*self._files, *map(Path, global_files)):
            try:
                texts.append(file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                pass  # it knows nobody
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{file} cannot be read: {error}", hint="repair it") from error
        try:
            self.known = asyncssh.import_known_hosts("\n".join(texts))
        except ValueError as error:
            raise InputError(
                f"the known hosts cannot be read: {error}", hint=f"repair {USER_FILE}"
            ) from error

    def judge(self, host: str, address: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Whether to go on with a host that does not have one of the known keys."""
        name = host if port == _DEFAULT_PORT else f"[{host}]:{port}"
        fingerprint = f"{key.get_algorithm()} {key.get_fingerprint()}"
        known, _, revoked, *_ = self.known.match(name, "", None)
        if key in revoked:
            self.refusal = InputError(f"the key of {name} is revoked: {fingerprint}", hint="set it up anew")
            return False
        if known:
            self.refusal = InputError(
                f"the key of {name} is not the one that is known, somebody may be in between; it is now "
                f"{fingerprint}",
                hint=f"if the target was set up anew, run ssh-keygen -R '{name}'",
            )
            return False
        if not self._accept_new or not self._files:
            step = "add --accept-new-host-key" if self._files else "name a UserKnownHostsFile to keep it in"
            self.refusal = InputError(
                f"the host {name} is not known; its key is {fingerprint}", hint=f"if that is right, {step}"
            )
            return False
        self._accepted = (name, key)
        return True

    def learn(self) -> None:
        """Add the host that was accepted to the user's known hosts."""
        if self._accepted is None:
            return
        name, key = self._accepted
        file = self._files[0]
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file.open("ab+") as stream:
                stream.seek(0)
                text = stream.read()
                separator = b"" if not text or text.endswith(b"\n") else b"\n"
                line = f"{name} ".encode() + key.export_public_key("openssh").strip()
                stream.write(separator + line + b"\n")
        except OSError as error:
            raise InputError(
                f"the key of {name} cannot be added to {file}: {error.strerror}", hint="make it writable"
            ) from error


def _path(name: str, host: str) -> Path:
    """A file that UserKnownHostsFile names, with those of ssh_config(5)'s tokens that say where it lies."""
    tokens = {"%%": "%", "%h": host, "%d": str(Path.home())}
    unknown = [token for token in _TOKEN.findall(name) if token not in tokens]
    try:
        if unknown:
            raise RuntimeError(f"{unknown[0]} is not understood here")
        return Path(_TOKEN.sub(lambda found: tokens[found[0]], name)).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"UserKnownHostsFile {name} cannot be found: {error}", hint="use a path, with ~, %d or %h in it"
        ) from error
