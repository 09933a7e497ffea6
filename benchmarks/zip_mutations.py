"""Zips whose own headers, members or form are other ones."""

from __future__ import annotations

import io
import random
import stat
import struct
import zipfile
from pathlib import Path


def edit_headers(chance: random.Random, file: Path) -> None:
    """Fields of a zip's own headers."""
    data = bytearray(file.read_bytes())
    marks = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06")
    mark = chance.choice(marks)
    places = [at for at in range(len(data)) if data.startswith(mark, at)]
    at = chance.choice(places) + 4 + chance.randrange({marks[0]: 26, marks[1]: 42, marks[2]: 18}[mark])
    value = chance.choice((0, 1, 8, 0x7FFF, 0xFFFF, 0xFFFFFFFF, chance.getrandbits(32)))
    if at + 4 <= len(data):
        struct.pack_into("<L", data, at, value)
    file.write_bytes(data)


def rebuild(chance: random.Random, file: Path) -> None:
    """The same members, or nearly, in a zip of another form."""
    with zipfile.ZipFile(file) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    kind = chance.randrange(7)
    name, data = chance.choice(members)
    if kind == 0:
        members.append((chance.choice(("../x", "/x", "a/b", "x\\y", name, "README.md/")), data))
    elif kind == 1:
        chance.shuffle(members)
    elif kind == 2:
        members = [(one, bytes(2**24) if one == name else content) for one, content in members]
    elif kind == 3:
        members.extend((f"{number}", b"") for number in range(chance.choice((1, 20, 5000))))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for one, content in members:
            info = zipfile.ZipInfo(one, (1980 + (kind == 4), 1, 1, 0, 0, 0))
            mode = stat.S_IFLNK | 0o777 if kind == 5 and one == name else stat.S_IFREG | 0o644
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED if kind in (2, 6) else None)
    file.write_bytes(stream.getvalue())
