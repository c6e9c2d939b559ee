"""The watcher of the place where scenes arrive: an event for each new state of a folder or an s3:// prefix.

A place counts as arrived once it has been the same for two looks, so that half-copied files are not taken. Events are
delivered at least once, and again after a restart: what consumes them does nothing twice (scenes are known by content).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

SECONDS: Final = 10.0


class ArrivalTrigger(BaseEventTrigger):  # type: ignore[misc]
    """Fires when what lies at a place has changed, and stays as it is.

    Args:
        place: Folder, `file://` or `s3://` URI.
        seconds: Between two looks.
    """

    def __init__(self, place: str, seconds: float = SECONDS) -> None:
        super().__init__()
        self.place = place
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How the triggerer makes it again."""
        return "pipelines.arrivals.ArrivalTrigger", {"place": self.place, "seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, and look again."""
        told = seen = ""
        while True:
            try:
                state = await asyncio.to_thread(fingerprint, self.place)
            except OSError as error:  # out of reach: it may come back
                self.log.warning("%s cannot be read: %s", self.place, error)
                state = seen
            if state and state == seen and state != told:
                told = state
                yield TriggerEvent({"source": self.place, "state": state})
            seen = state
            await asyncio.sleep(self.seconds)


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
