"""Whether a TIFF's directories are all there, before GDAL reads it.

GDAL leaves out, with no more than a warning, a tag whose values lie beyond the end of a truncated file: lost band
descriptions would let bands be taken by position, and a lost nodata value or scale would change their meaning.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

_TYPE_SIZES: Final = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip
_MOST_DIRECTORIES: Final = 1024
"""An image has a directory, its mask and each overview one more; beyond this a file is built to hurt."""


@dataclass(frozen=True)
class _Layout:
    """Sizes of TIFF or BigTIFF: struct codes of an entry count, and of an offset."""

    order: str
    count: str
    offset: str

    @property
    def word(self) -> int:
        """Bytes of an offset; values of up to so many bytes stand in the entry itself."""
        return struct.calcsize(self.order + self.offset)


def looks_like_tiff(head: bytes) -> bool:
    """Whether a file's first bytes are those of a TIFF or BigTIFF."""
    return head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def is_complete(stream: BinaryIO, size: int) -> bool:
    """Whether every directory of a TIFF and all values of its tags lie inside the file.

    Files that are no TIFF are not judged: the answer is True. Pixels are not looked at.

    Args:
        stream: The file, at any position.
        size: Its length, bytes.
    """
    stream.seek(0)
    head = stream.read(16)
    if not looks_like_tiff(head):
        return True
    if len(head) < 16:
        return False
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in head[2:4]
    layout = _Layout(order, "Q", "Q") if big else _Layout(order, "H", "I")
    (at,) = struct.unpack(order + layout.offset, head[8:16] if big else head[4:8])
    seen: set[int] = set()
    while at:
        if at in seen or len(seen) == _MOST_DIRECTORIES:
            return False
        seen.add(at)
        following = _next_directory(stream, size, at, layout)
        if following is None:
            return False
        at = following
    return bool(seen)


def _next_directory(stream: BinaryIO, size: int, at: int, layout: _Layout) -> int | None:
    """Where the directory after this one lies, 0 after the last; None where this one is not whole."""
    head = struct.calcsize(layout.order + layout.count)
    entry = 4 + 2 * layout.word
    if at + head > size:
        return None
    stream.seek(at)
    (count,) = struct.unpack(layout.order + layout.count, stream.read(head))
    length = count * entry
    if at + head + length + layout.word > size:
        return None
    entries = stream.read(length)
    for start in range(0, length, entry):
        _, kind, number, value = struct.unpack_from(f"{layout.order}HH{layout.offset}{layout.offset}", entries, start)
        needed = _TYPE_SIZES.get(kind, 0) * number
        if needed > layout.word and value + needed > size:
            return None
    (following,) = struct.unpack(layout.order + layout.offset, stream.read(layout.word))
    return int(following)
