"""What a file is that should be a raster and is none: told by its first bytes, with what to do about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

HEAD: Final = 1024
"""How many of a file's first bytes are enough to tell."""

_TITLE: Final = re.compile(rb"<title[^>]*>\s*([^<]{1,80})", re.IGNORECASE)
_ANNEX: Final = re.compile(r"annex/objects/")


def what_else(head: bytes) -> tuple[str, str] | None:
    """What a file is in place of a raster, and how to mend it; None where it is nothing that is known.

    Args:
        head: The first `HEAD` bytes, or the whole of a shorter file.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        return ": the file is empty", "Fetch or write the file again"
    if text[:15].lower().startswith((b"<!doctype html", b"<html")):
        title = _TITLE.search(text)
        said = f": {' '.join(title[1].decode(errors='replace').split())}" if title else ""
        return f" but an HTML page, not a raster{said}", "Fetch it from the right address, logged in where it asks"
    if text.startswith(b"version https://git-lfs.github.com/spec/"):
        return " but a pointer of Git LFS, not the data", "Run git lfs pull"
    if len(head) < HEAD and _ANNEX.search(head.decode(errors="replace")):
        return " but a pointer of git-annex, not the data", "Run git annex get"
    return None


def is_annex_link(path: Path) -> bool:
    """Whether a path is git-annex's link to content that is not here."""
    return path.is_symlink() and not path.exists() and _ANNEX.search(str(path.readlink())) is not None
