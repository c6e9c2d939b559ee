"""A listing: what a source of files must be able to do, so that pairs are found in the same way everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """A file of a listing.

    Attributes:
        size: Bytes.
        stamp: What changes when its content does: a modification time or an ETag.
    """

    size: int
    stamp: str


class Listing(Protocol):
    """Files under one root, by their names relative to it, with `/` between folders.

    Attributes:
        uri: The root.
    """

    uri: str

    def find(self, glob: str) -> list[str]:
        """The names that match, sorted; `*` stands for anything within one folder."""
        ...

    def entry(self, name: str) -> Entry | None:
        """A file's size and stamp; None where there is no such file."""
        ...

    def inside(self, relative: str, listed_in: str) -> str:
        """A path as someone wrote it in a list as the name of a file below the root.

        Raises:
            DataRefused: If it is no path, or leads out of the root.
        """
        ...

    def told(self, name: str) -> str:
        """The full path or URI, for messages."""
        ...

    def read(self, name: str) -> bytes:
        """A small file's bytes.

        Raises:
            DataRefused: If it cannot be read.
            TemporaryFailure: If it is out of reach.
        """
        ...

    def fetch(self, name: str, folder: Path) -> Path:
        """A file as a local one: itself, or a copy in a workspace folder.

        Raises:
            DataRefused: If it is not there, may not be read, or changed since it was listed.
            TemporaryFailure: If it is out of reach, or the workspace is full.
        """
        ...
