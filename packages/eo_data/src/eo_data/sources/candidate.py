"""What a source is: it offers candidates and fetches them; `ingest` judges and stores them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from eo_data.errors import DataRefused

VALID_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What an id matches in full. Ids become folders of the store: no separators, no traversal."""


@dataclass(frozen=True)
class Candidate:
    """A scene that a source offers.

    Attributes:
        id: Its STAC id.
        collection: Its STAC collection.
        where: Path or URI of its image, or of its STAC item, for messages.
        label: Path or URI of its label, for messages; None where there is none.
        item: Its STAC item as the source gave it; None where it gave none.
        source_split: Name of the source's list that it stands in.
        fingerprint: Digest of what the source offers under this id, made without reading pixels: a candidate
            that was stored under an equal fingerprint is not fetched again. None: it is always fetched.
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
    """A candidate's files, local and ready to be read.

    Attributes:
        image: Its GeoTIFF; it may lie in the workspace folder, or be the source's own file.
        label: Its label, likewise.
        item: Its STAC item, where there is one.
    """

    image: Path
    label: Path | None
    item: dict[str, Any] | None


class Source(Protocol):
    """Anything that offers scenes.

    Attributes:
        name: What its labels, and scenes without a collection, are filed under; matches `VALID_ID`.
    """

    name: str

    def candidates(self) -> list[Candidate]:
        """The scenes on offer, sorted by id; one that cannot be taken bears its fault.

        Raises:
            DataRefused: If the source offers nothing or cannot be read.
            TemporaryFailure: If it is out of reach.
        """
        ...

    def fetch(self, candidate: Candidate, folder: Path) -> Fetched:
        """Bring a candidate's files within reach.

        Args:
            candidate: One of `candidates()`, without a fault.
            folder: An empty workspace folder, which the caller removes.

        Raises:
            DataRefused: If they are not there, or are not what the source said they are.
            TemporaryFailure: If the source does not answer.
        """
        ...


def source_name(text: str, otherwise: str) -> str:
    """A name for a source out of a folder's or bucket's: what is no letter, digit, '.', '_' or '-' becomes '-'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:128] or otherwise
