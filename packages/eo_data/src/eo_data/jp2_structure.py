"""Whether a JPEG 2000 file is all there, before GDAL reads it.

GDAL decodes the tiles of a truncated JP2 in several threads, prints errors, and hands out what it has as if it were
the image.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

_END: Final = b"\xff\xd9"
"""The marker that ends a codestream."""

_MOST_BOXES: Final = 1024


def looks_like_jp2(head: bytes) -> bool:
    """Whether a file begins as JPEG 2000 does: with a box, or with a bare codestream."""
    return head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"))


def is_complete(stream: BinaryIO, size: int) -> bool:
    """Whether every box of a JP2 lies inside the file and its codestream comes to an end.

    Files that are no JPEG 2000 are not judged: the answer is True. Pixels are not looked at.

    Args:
        stream: The file, at any position.
        size: Its length, bytes.
    """
    stream.seek(0)
    head = stream.read(12)
    if not looks_like_jp2(head):
        return True
    if head.startswith(b"\xff"):
        return _ends(stream, size)
    at = 0
    for _ in range(_MOST_BOXES):
        stream.seek(at)
        box = stream.read(16)
        if len(box) < 8:
            return False
        length, kind = struct.unpack(">I4s", box[:8])
        if length == 1:  # the real length follows
            if len(box) < 16:
                return False
            (length,) = struct.unpack(">Q", box[8:])
        end = size if length == 0 else at + length
        if end > size or end < at + 8:
            return False
        if kind == b"jp2c":
            return _ends(stream, end)
        at = end
    return False


def _ends(stream: BinaryIO, end: int) -> bool:
    stream.seek(max(0, end - len(_END)))
    return stream.read(len(_END)) == _END
