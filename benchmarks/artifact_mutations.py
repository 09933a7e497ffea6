"""Artifacts changed in every way that a hostile hand could think of, each change drawn from a seed.

A mutation takes a copy of an artifact's folder, and perhaps one of another artifact, and leaves a changed
artifact behind. **Sealed** ones keep the manifest as it was; **resealed** ones give the changed members new
digests and the manifest a new one, as a consistent forger would.
"""

from __future__ import annotations

import json
import random
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from graph_mutations import NUMBERS, edit_graph
from zip_mutations import edit_headers, rebuild

from privynet.artifacts import file_digest, manifest_digest
from privynet.artifacts.archives import pack

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    2**70,
    "",
    "x" * 300,
    "\x1b[2J",
    "../../x",
    [],
    {},
    [[]] * 9,
)


@dataclass(frozen=True)
class Mutation:
    """One kind of change. ``change`` gets the chance, the folder to change, and another artifact's folder."""

    name: str
    resealed: bool
    change: Callable[[random.Random, Path, Path], None]
    zipped: bool = False
    """Whether the folder is packed first, and ``change`` gets the zip."""


def mutate(mutation: Mutation, chance: random.Random, base: Path, other: Path, place: Path) -> Path:
    """A changed copy of ``base`` in the empty folder ``place``: its path."""
    folder = Path(shutil.copytree(base, place / "artifact"))
    file = place / "artifact.zip"
    if mutation.zipped:
        pack(folder, file)
        mutation.change(chance, file, other)
        return file
    mutation.change(chance, folder, other)
    if not mutation.resealed:
        return folder
    plain = all(stat.S_ISREG(member.lstat().st_mode) for member in folder.iterdir())
    if plain:
        reseal(folder)
    if not plain or chance.random() < 0.5:
        return folder
    pack(folder, file)
    return file


def reseal(folder: Path) -> None:
    """Give a manifest, if there still is one, the digests that fit."""
    try:
        document = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return
    files = document.get("files")
    for name in files if isinstance(files, dict) else ():
        if (folder / name).is_file():
            size = (folder / name).stat().st_size
            files[name] = {"sha256": file_digest(folder / name), "bytes": size}
    try:
        document["digest"] = manifest_digest(document)
    except ValueError:
        return
    (folder / MANIFEST).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def a_member(chance: random.Random, folder: Path) -> Path:
    return chance.choice(sorted(folder.iterdir()))


def some_bytes(chance: random.Random) -> bytes:
    return chance.choice(
        (chance.randbytes(chance.randint(1, 64)), bytes(chance.randint(1, 4096)), b"\xff" * 12)
    )


def flip(chance: random.Random, file: Path) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 1, 1, 2, 8, 64))):
        data[chance.randrange(len(data))] ^= chance.randint(1, 255)
    file.write_bytes(data)


def cut(chance: random.Random, file: Path) -> None:
    data = file.read_bytes()
    start = chance.randrange(len(data))
    end = chance.choice((len(data), min(len(data), start + chance.randint(1, 200))))
    file.write_bytes(data[:start] + data[end:])


def insert(chance: random.Random, file: Path) -> None:
    data, more = file.read_bytes(), some_bytes(chance)
    at = chance.choice((0, len(data), chance.randint(0, len(data))))
    kept = data[at + len(more) :] if chance.random() < 0.3 else data[at:]
    file.write_bytes(data[:at] + more + kept)


def in_member(
    change: Callable[[random.Random, Path], None], *names: str
) -> Callable[[random.Random, Path, Path], None]:
    """The change in one of these members, or in any."""

    def in_folder(chance: random.Random, folder: Path, other: Path) -> None:
        change(chance, folder / chance.choice(names) if names else a_member(chance, folder))

    return in_folder


def swap(chance: random.Random, folder: Path, other: Path) -> None:
    one, two = chance.sample(sorted(folder.iterdir()), 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def take(chance: random.Random, folder: Path, other: Path) -> None:
    """A member of another artifact in place of its own."""
    names = {file.name for file in other.iterdir()} - {SIGNATURE}
    name = chance.choice(sorted(name for name in names if name != MANIFEST))
    shutil.copy(other / name, folder / name)


def rearrange(chance: random.Random, folder: Path, other: Path) -> None:
    """Members dropped, added, renamed, linked, or made folders."""
    member = a_member(chance, folder)
    match chance.randrange(6):
        case 0:
            member.unlink()
        case 1:
            (folder / chance.choice(("more", ".hidden", "encoder.ort", "x" * 200))).write_bytes(b"more")
        case 2:
            member.rename(folder / chance.choice((f"{member.name}~", member.name.upper())))
        case 3:
            outside = folder.parent / "outside"
            member.rename(outside)
            member.symlink_to(outside)
        case 4:
            member.unlink()
            member.symlink_to("/dev/zero")
        case _:
            member.unlink()
            member.mkdir()


def edit_json(chance: random.Random, file: Path) -> None:
    """Another value, key or type somewhere in a document."""
    document = json.loads(file.read_text())
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            walk(value[key])

    walk(document)
    holder, key = chance.choice(places)
    match chance.randrange(5):
        case 0:
            del holder[key]
        case 1:
            holder[key] = chance.choice(NUMBERS)
        case 2 if isinstance(holder, dict):
            holder[chance.choice(("more", "\n", "../x", ""))] = holder[key]
        case 3:
            other, name = chance.choice(places)
            holder[key] = json.loads(json.dumps(other[name])) if other is not holder else 7
        case _:
            holder[key] = chance.choice(VALUES)
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def edit_arrays(chance: random.Random, file: Path) -> None:
    """A self-test of other arrays."""
    with np.load(file) as archive:
        rows = dict(archive)
    name = chance.choice(sorted(rows))
    match chance.randrange(5):
        case 0:
            del rows[name]
        case 1:
            rows[name] = rows[name].astype(chance.choice(("u1", "f8", "f4", "?", ">f4", "i8")))
        case 2:
            rows[name] = rows[name][..., None]
        case 3:
            rows[name] = np.asarray(rows[name] + rows[name].dtype.type(1))
        case _:
            rows[chance.choice(("more", "../x"))] = rows[name]
    np.savez(file, **rows)


def on_zip(change: Callable[[random.Random, Path], None]) -> Callable[[random.Random, Path, Path], None]:
    def change_zip(chance: random.Random, file: Path, other: Path) -> None:
        change(chance, file)

    return change_zip


MUTATIONS = (
    Mutation("bytes flipped", False, in_member(flip)),
    Mutation("bytes cut out", False, in_member(cut)),
    Mutation("bytes put in", False, in_member(insert)),
    Mutation("members swapped", False, swap),
    Mutation("member of another artifact", False, take),
    Mutation("members dropped, added, renamed, linked", False, rearrange),
    Mutation("JSON edited", False, in_member(edit_json, MANIFEST, "encoder.json")),
    Mutation("zip: bytes flipped", False, on_zip(flip), zipped=True),
    Mutation("zip: bytes cut out", False, on_zip(cut), zipped=True),
    Mutation("zip: bytes put in", False, on_zip(insert), zipped=True),
    Mutation("zip: headers edited", False, on_zip(edit_headers), zipped=True),
    Mutation("zip: made anew by another tool", False, on_zip(rebuild), zipped=True),
    Mutation("graph: bytes flipped", True, in_member(flip, "encoder.onnx")),
    Mutation(
        "graph: bytes cut out or put in",
        True,
        in_member(lambda c, f: c.choice((cut, insert))(c, f), "encoder.onnx"),
    ),
    Mutation("graph: edited", True, in_member(edit_graph, "encoder.onnx")),
    Mutation("self-test: bytes flipped", True, in_member(flip, "selftest.npz")),
    Mutation(
        "self-test: bytes cut out or put in",
        True,
        in_member(lambda c, f: c.choice((cut, insert))(c, f), "selftest.npz"),
    ),
    Mutation("self-test: edited", True, in_member(edit_arrays, "selftest.npz")),
    Mutation("manifest: JSON edited", True, in_member(edit_json, MANIFEST)),
    Mutation("spec: JSON edited", True, in_member(edit_json, "encoder.json")),
    Mutation("spec or README: bytes flipped", True, in_member(flip, "encoder.json", "README.md")),
    Mutation("member of another artifact", True, take),
    Mutation("members swapped", True, swap),
    Mutation("members dropped, added, renamed, linked", True, rearrange),
)
