"""A folder of GeoTIFFs or JP2s as a source."""

from __future__ import annotations

import os
from pathlib import Path

from eo_data.errors import DataRefused, UsageError
from eo_data.file_kinds import is_annex_link
from eo_data.sources.candidate import source_name
from eo_data.sources.listing import Entry
from eo_data.sources.pairing import PairedSource
from eo_data.store import local_path
from eo_data.usecase import DataSection


class FolderSource(PairedSource):
    """Pairs of a folder, by the lists that the use case names, else by its patterns (see `PairedSource`).

    Args:
        uri: The folder.
        data: The use case's data section.

    Raises:
        UsageError: If there is no such folder.
    """

    def __init__(self, uri: str, data: DataSection) -> None:
        root = local_path(uri)
        if root.is_file():
            raise UsageError(
                "this is a file, not a folder", where=str(root), fix="Give the folder that holds the pairs"
            )
        if not root.is_dir():
            raise UsageError("there is no such folder", where=str(root), fix="Check --source")
        super().__init__(source_name(root.name, "folder"), FolderListing(root), data)


class FolderListing:
    """The files of a folder."""

    def __init__(self, root: Path) -> None:
        self.uri = root.resolve().as_uri()
        self._root = root

    def find(self, glob: str) -> list[str]:
        """The names that match, sorted."""
        return sorted(path.relative_to(self._root).as_posix() for path in self._root.glob(glob))

    def entry(self, name: str) -> Entry | None:
        """A file's size and modification time; a link that leads nowhere is there, and cannot be fetched."""
        path = self._root / name
        try:
            facts = path.stat()
        except OSError:
            return Entry(0, "link") if path.is_symlink() else None
        return Entry(facts.st_size, str(facts.st_mtime_ns)) if path.is_file() else None

    def inside(self, relative: str, listed_in: str) -> str:
        """A path that a list names, below the folder also where links lead."""
        try:
            path = (self._root / relative).resolve()
            path.exists()
            # Links of folders are followed before `..` is; a file that is a link itself keeps its own name.
            place = (self._root / relative).parent.resolve() / Path(relative).name
        except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL character, a loop of links
            raise DataRefused(f"'{relative[:80]}' is no path ({error})", where=listed_in, fix="Correct it") from error
        root = self._root.resolve()
        if place.name == "..":
            place = path
        if not path.is_relative_to(root) or not place.is_relative_to(root):
            raise DataRefused(f"'{relative}' lies outside the folder", where=listed_in, fix="Use relative paths")
        return place.relative_to(root).as_posix()

    def told(self, name: str) -> str:
        """The full path."""
        return str(self._root / name)

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        path = self._root / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataRefused(
                f"the file cannot be read ({error.strerror})", where=str(path), fix="Check it and its permissions"
            ) from error

    def fetch(self, name: str, folder: Path) -> Path:
        """The file itself."""
        path = self._root / name
        if is_annex_link(path):
            raise DataRefused("a pointer of git-annex, not the data", where=str(path), fix="Run git annex get")
        if not path.is_file():
            raise DataRefused("there is no such file", where=str(path), fix="Correct the list or bring the file")
        if not os.access(path, os.R_OK):
            raise DataRefused("the file may not be read", where=str(path), fix="Change its permissions")
        return path
