"""One malformed file and what the error about it must say."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


@dataclass(frozen=True)
class Case:
    """data: the bytes (or a function that makes them, for big ones); says: part of the message; line: its line
    (None: any); beside: further files, by the ending added to the name; ending: of the file's name."""

    data: bytes | Callable[[], bytes]
    says: str
    line: int | None = None
    ending: str = ""
    beside: dict[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path, name: str) -> Path:
        path = folder / f"{name}{self.ending}"
        path.write_bytes(self.data() if callable(self.data) else self.data)
        for ending, data in self.beside.items():
            Path(f"{path}{ending}").write_bytes(data)
        return path

    def check(self, message: str, path: Path) -> None:
        """Assert that ``message`` is one line that names the file, the line and the reason."""
        assert "\n" not in message
        assert str(path) in message, message
        assert self.says in message, message
        assert re.search(rf"{re.escape(str(path))}(\.fai)?:{self.line or '[0-9]+'}: ", message), message
        assert len(message) < 500 + 3 * len(str(path)), len(message)
        assert message.count(": ") >= 2, f"no fix: {message}"


def bgzip(data: bytes, block: int = 60_000) -> bytes:
    """Block-gzip, as `bgzip` writes it."""
    out = []
    for at in range(0, len(data), block):
        part = data[at : at + block]
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = squeeze.compress(part) + squeeze.flush()
        out.append(b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25))
        out.append(body + struct.pack("<II", zlib.crc32(part), len(part)))
    return b"".join(out) + BGZF_EOF


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
