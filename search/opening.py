"""The run folder of a search: made, taken up again, or refused because it is another's."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..artifacts import RunFolder, read_document, write_document
from ..data import DataSet
from ..device_profiles import DeviceProfile
from ..encoders import BackboneName, new_secret
from ..errors import InputError
from .run_lock import locked

_INSECURE_SECRET = bytes(32)
_SECRET_KIND = "secret"
_OWNER, _OWNER_KIND = "owner.json", "owner"


@contextmanager
def open_run(out: Path, identity: Mapping[str, Any], *, force: bool) -> Iterator[RunFolder]:
    """The run at ``out``, locked: a new one, or what is there where it is this very search.

    Raises:
        InputError: ``out`` is another search's run or no run at all, or a search is running in it.
    """
    if out.exists() and not force:
        run = RunFolder.open(out)
    else:
        # One that runs must not lose its folder to --force.
        with locked(out) if _is_run(out) else nullcontext():
            run = RunFolder.create(out, identity, force=force)
    _check_same(run, identity)
    with locked(run.path):
        yield run


def data_identity(data: DataSet) -> dict[str, Any]:
    """What of a data set must not change between two calls of a search; where it lies may."""
    return {
        "data": data.name.partition(":")[0],
        "data_digest": data.digest,
        "image_size": data.reference_size,
    }


def device_identity(profile: DeviceProfile) -> dict[str, Any]:
    """What of a device must not change: all that its profile says."""
    content = json.dumps(profile.model_dump(mode="json"), sort_keys=True)
    return {"device": profile.name, "device_digest": hashlib.sha256(content.encode()).hexdigest()}


def backbone_identity(name: BackboneName) -> str:
    """A backbone without the place of its weights: their digest tells them apart."""
    return str(replace(name, weights=None))


def read_secret(run: RunFolder, *, insecure: bool) -> bytes:
    """The run's secret for random selection, from the operating system unless ``insecure``."""
    if not run.secret.exists():
        secret = _INSECURE_SECRET if insecure else new_secret()
        write_document(run.secret, _SECRET_KIND, {"secret": secret.hex(), "insecure": insecure}, private=True)
    try:
        return bytes.fromhex(read_document(run.secret, _SECRET_KIND)["secret"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{run.secret} holds no secret", hint="start over with --force") from error


def read_owner(run: RunFolder) -> str:
    """What the run's processes are called in a storage: a random name, which says nothing of the machine."""
    path = run.path / _OWNER
    if not path.exists():
        write_document(path, _OWNER_KIND, {"owner": secrets.token_hex(8)})
    owner = read_document(path, _OWNER_KIND).get("owner")
    if not isinstance(owner, str) or not owner:
        raise InputError(f"{path} names no owner", hint="remove it")
    return owner


def _is_run(out: Path) -> bool:
    try:
        RunFolder.open(out)
    except InputError:
        return False
    return True


def _check_same(run: RunFolder, identity: Mapping[str, Any]) -> None:
    known, asked = run.inputs, json.loads(json.dumps(identity))
    different = sorted(key for key in known.keys() | asked.keys() if known.get(key) != asked.get(key))
    if different:
        raise InputError(
            f"{run.path} is the run of another search: {', '.join(different)} differ",
            hint="give another --out, or --force to start over",
        )
