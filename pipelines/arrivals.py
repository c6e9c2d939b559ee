"""The watcher of the place where scenes arrive: an event for each new state of a folder or an s3:// prefix.

A place counts as arrived once it has been the same for two looks, so that half-copied files are not taken. Events are
delivered at least once, and again after a restart: what consumes them does nothing twice (scenes are known by content).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from pipelines.places import fingerprint

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
