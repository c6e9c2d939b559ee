"""What a source offers, and what it gives when asked: local files that are ready to be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eo_data.errors import DataRefused


@dataclass(frozen=True)
class Candidate:
    """A scene that a source offers.

    Attributes:
        id: Its STAC id.
        collection: Its STAC collection.
        where: Path or URI of the image (or STAC item), for messages.
        label: Path or URI of its label, for messages; None where there is none.
        item: Its STAC item as the source gave it; None where it gave none.
        source_split: Name of the source's list that it stands in.
        fingerprint: Digest of what the source offers under this id, without reading pixels; None: always fetched.
        fault: Why it cannot be taken, where the source itself can tell.
    """

    id: str
    collection: str
    where: str
    label: str | None = None
    item: dict[str, Any] | None = None
    source_split: str | None = None
    fingerprint: str | None = None
    fault: DataRefused | None = None


@dataclass(frozen=True)
class Fetched:
    """Local files, ready to be read; they may lie in the workspace folder.

    Attributes:
        image: The image.
        label: Its label; None where there is none.
        item: Its STAC item; None where the source gave none.
    """

    image: Path
    label: Path | None
    item: dict[str, Any] | None


class Source(Protocol):
    """Anything that offers scenes."""

    name: str

    def candidates(self) -> list[Candidate]:
        """The scenes on offer, sorted by id."""
        ...

    def fetch(self, candidate: Candidate, folder: Path) -> Fetched:
        """Bring a candidate's files.

        Raises:
            DataRefused: If they cannot be used.
            TemporaryFailure: If the source is out of reach.
        """
        ...
