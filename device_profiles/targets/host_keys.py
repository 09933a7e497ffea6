"""Which hosts are known, as OpenSSH keeps them: unknown ones are refused or learnt, changed ones refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError

if TYPE_CHECKING:
    import asyncssh

USERS = "~/.ssh/known_hosts"
EVERYBODYS = "/etc/ssh/ssh_known_hosts"
_DEFAULT_PORT = 22


class HostKeys:
    """The known hosts of some files, and the verdict on a host that is none of them.

    ``users``: the user's, in the first of which new ones are kept; ``everybodys``: the system's. Raises
    :class:`InputError` for one that cannot be read.
    """

    def __init__(self, users: Sequence[str], everybodys: Sequence[str], *, accept_new: bool) -> None:
        import asyncssh

        self._files = [Path(file).expanduser() for file in users]
        self._accept_new = accept_new
        self._accepted: tuple[str, asyncssh.SSHKey] | None = None
        self.refusal: InputError | None = None
        texts = []
        for file in (*self._files, *map(Path, everybodys)):
            try:
                texts.append(file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                pass  # it knows nobody
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{file} cannot be read: {error}", hint="repair it") from error
        try:
            self.known = asyncssh.import_known_hosts("\n".join(texts))
        except ValueError as error:
            raise InputError(f"the known hosts cannot be read: {error}", hint=f"repair {USERS}") from error

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
