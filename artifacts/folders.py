"""Output folders that appear complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from .documents import parse
from .files import sibling, sync, writing


@contextmanager
def new_folder(path: Path, *, force: bool = False, private: bool = False) -> Iterator[Path]:
    """Fill a temporary folder that takes the name ``path`` only when the context ends without an exception.

    ``force`` replaces a folder that privynet wrote (it holds one of its documents) or an empty one, and
    nothing else. ``private`` makes it mode 0700. Raises ``InputError`` when ``path`` exists and is not to be
    replaced, and ``PrivynetError`` when the disk is full; the temporary folder is gone then.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow a link that must be seen)
    _check_free(path, force=force)
    temporary, replaced = sibling(path), sibling(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(mode=0o700 if private else 0o777)
        try:
            yield temporary
            _sync_all(temporary)
            _check_free(path, force=force)
            if path.exists():
                path.rename(replaced)
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            if replaced.exists() and not path.exists():
                replaced.rename(path)
            raise
        sync(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)


def _check_free(path: Path, *, force: bool) -> None:
    if not os.path.lexists(path):
        return
    if not force:
        raise InputError(f"{path} exists", hint="choose another --out, or --force to replace it")
    if path.is_symlink() or not path.is_dir():
        raise InputError(f"{path} is not a folder", hint="--force replaces folders only")
    if not _replaceable(path):
        raise InputError(
            f"{path} was not written by privynet", hint="--force replaces only what privynet wrote"
        )


def _replaceable(path: Path) -> bool:
    """Whether the folder is empty or holds a document of ours: a mistyped --out must cost nothing."""
    if not any(path.iterdir()):
        return True
    for file in path.glob("*.json"):
        if file.is_file() and file.stat().st_size < 2**24:
            document = parse(file.read_bytes())
            if document is not None and {"schema_version", "kind", "tool_version"} <= document.keys():
                return True
    return False


def _sync_all(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            sync(Path(root, name))
        sync(Path(root))
