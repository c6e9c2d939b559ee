"""The state of a folder or an s3:// prefix in one word, to see that something has changed there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit


def fingerprint(place: str) -> str:
    """A digest of names, sizes and times at a place; empty where nothing lies there.

    Raises:
        OSError: If it cannot be looked at.
    """
    parts = urlsplit(place)
    entries = _objects(parts.netloc, parts.path.lstrip("/")) if parts.scheme == "s3" else _files(place)
    lines = sorted(entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] if lines else ""


def _files(place: str) -> list[str]:
    folder = Path(unquote(urlsplit(place).path) if place.startswith("file://") else place)
    found = []
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base) / name
            with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                state = path.stat()
                found.append(f"{path.relative_to(folder)} {state.st_size} {state.st_mtime_ns}")
    return found


def _objects(bucket: str, prefix: str) -> list[str]:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None)
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [f"{one['Key']} {one['Size']} {one['ETag']}" for page in pages for one in page.get("Contents", ())]
    except (BotoCoreError, ClientError) as error:
        raise OSError(str(error)) from error
