"""Rasters by href: how GDAL reaches them, and what a failure of GDAL means for people."""

from __future__ import annotations

import re
from pathlib import Path

from eo_data.errors import DataRefused, TemporaryFailure, TerraloopError
from eo_data.object_storage import obstore_options
from eo_data.store import local_path
from eo_data.tiff_structure import looks_like_tiff

DRIVERS = ("GTiff", "JP2OpenJPEG")
"""What is opened. Other formats of GDAL can name further files, which a catalog has no business to read here."""

_JP2 = (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")
_PASSING = re.compile(
    r"HTTP (?:response|error) code ?:? ?(?:408|429|5\d\d)|CURL error|timed? ?out|Could not (?:connect|resolve)"
    r"|Connection (?:refused|reset)|SlowDown|ServiceUnavailable",
    re.IGNORECASE,
)
"""What GDAL says of trouble that passes."""


def gdal_path(href: str) -> str:
    """What GDAL opens: `/vsicurl/` for http(s), `/vsis3/` for S3, else the local path.

    Raises:
        DataRefused: If the href is of another scheme, or names one of GDAL's own file systems.
    """
    if href.startswith(("http://", "https://")):
        return f"/vsicurl/{href}"
    if href.startswith("s3://"):
        return f"/vsis3/{href.removeprefix('s3://')}"
    if href.startswith("/vsi") or (re.match(r"[a-zA-Z][\w+.-]*:", href) and not href.startswith("file://")):
        raise DataRefused(
            "this address cannot be read", where=plain(href), fix="Give a path, or an http(s):// or s3:// URI"
        )
    return str(local_path(href))


def plain(href: str) -> str:
    """An href without its secrets: what follows its `?`, which may be a signature, and `user:password@`."""
    return re.sub(r"^(\w+://)[^/]*@", r"\1", href.split("?", 1)[0]) if is_remote(href) else href


def is_remote(href: str) -> bool:
    """Whether an href is read over the network."""
    return href.startswith(("http://", "https://", "s3://"))


def explain(href: str, error: BaseException) -> TerraloopError:
    """What GDAL's failure with an href means.

    GDAL tells a page in HTML, a missing file and a server that is down in much the same words; so the place itself
    is asked once more, for its first bytes.

    Args:
        href: What was being read.
        error: What rasterio raised.
    """
    said = _said(error)
    if is_remote(href) and _PASSING.search(said):
        return _unreachable(href, said)
    if href.startswith("s3://"):
        head: bytes | TerraloopError = _s3_head(href)
    elif is_remote(href):
        head = _http_head(href)
    else:
        head = _local_head(href)
    if isinstance(head, TerraloopError):
        return head
    if not head:
        return DataRefused("the file is empty", where=plain(href), fix="Fetch or write it again")
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return DataRefused(
            "this is an HTML page, no raster", where=plain(href), fix="Open it in a browser to see what it says"
        )
    if not _is_raster(head):
        return DataRefused(
            "this is neither a GeoTIFF nor a JP2", where=plain(href), fix="Give a file that `rio info` can open"
        )
    return DataRefused("the raster is truncated or damaged", where=plain(href), fix="Fetch or write it again")


def _is_raster(head: bytes) -> bool:
    return looks_like_tiff(head[:4]) or head.startswith(_JP2)


def _said(error: BaseException | None) -> str:
    """What an error and all its causes say."""
    words: list[str] = []
    while error is not None and len(words) < 8:
        words.append(str(error))
        error = error.__cause__ or error.__context__
    return " ".join(words)


def _unreachable(href: str, said: str) -> TemporaryFailure:
    return TemporaryFailure(
        f"the server does not answer ({' '.join(said.split())[:160]})",
        where=plain(href),
        fix="Run the step again later",
    )


def _http_head(href: str) -> bytes | TerraloopError:
    import requests

    try:
        with requests.get(href, headers={"Range": "bytes=0-255"}, stream=True, timeout=(10, 30)) as answer:
            status = answer.status_code
            head = next(answer.iter_content(256), b"") if status < 400 else b""
    except requests.RequestException as error:
        return _unreachable(href, type(error).__name__)
    if status >= 500 or status in {408, 429}:
        return _unreachable(href, f"HTTP {status}")
    if status in {401, 403}:
        return DataRefused(
            f"the server refuses access (HTTP {status})", where=plain(href), fix="Use a signed or public href"
        )
    if status == 416:  # not even a first byte
        return b""
    if status >= 400:
        return DataRefused(f"there is no such file (HTTP {status})", where=plain(href), fix="Correct the href")
    if status != 206 and _is_raster(head):  # a range was asked for
        return DataRefused(
            "the server gives files whole only, not by ranges",
            where=plain(href),
            fix="Download them and ingest the folder",
        )
    return head


def _s3_head(href: str) -> bytes | TerraloopError:
    import obstore
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
    from obstore.store import S3Store

    bucket, _, key = href.removeprefix("s3://").partition("/")
    try:
        store = S3Store(bucket, **obstore_options())
        size = obstore.head(store, key)["size"]
        return bytes(obstore.get_range(store, key, start=0, end=min(256, size))) if size else b""
    except FileNotFoundError:
        return DataRefused("there is no such object", where=plain(href), fix="Correct the href")
    except (PermissionDeniedError, UnauthenticatedError):
        return DataRefused(
            "the object storage refuses access",
            where=plain(href),
            fix="Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    except BaseError as error:
        return _unreachable(href, str(error))


def _local_head(href: str) -> bytes | TerraloopError:
    try:
        with Path(local_path(href)).open("rb") as stream:
            return stream.read(256)
    except FileNotFoundError:
        return DataRefused("there is no such file", where=plain(href), fix="Correct the path or bring the file")
    except OSError as error:
        return DataRefused(
            f"the file cannot be read ({error.strerror})", where=plain(href), fix="Change its permissions"
        )
