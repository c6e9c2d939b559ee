"""A prefix of an S3 bucket as a source: listed and fetched with obstore."""

from __future__ import annotations

import posixpath
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store

from eo_data.digests import SHORT, json_digest
from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_data.object_storage import obstore_options
from eo_data.sources.candidate import source_name
from eo_data.sources.listing import Entry
from eo_data.sources.pairing import PairedSource
from eo_data.store import failure
from eo_data.usecase import DataSection

_CHUNK = 8 * 2**20


class PrefixSource(PairedSource):
    """Pairs of an S3 prefix, by the lists that the use case names, else by its patterns (see `PairedSource`).

    Args:
        uri: `s3://BUCKET[/PREFIX]`.
        data: The use case's data section.

    Raises:
        UsageError: If it names no bucket.
    """

    def __init__(self, uri: str, data: DataSection) -> None:
        parts = urlsplit(uri.rstrip("/"))
        if parts.scheme != "s3" or not parts.netloc:
            raise UsageError("this names no bucket", where=f"--source {uri}", fix="Give s3://BUCKET/PREFIX")
        name = parts.path.rpartition("/")[2] or parts.netloc
        super().__init__(source_name(name, "bucket"), PrefixListing(uri.rstrip("/")), data)


class PrefixListing:
    """The objects under a prefix; folders are listed once, when they are first asked for."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._objects = S3Store.from_url(uri, **obstore_options())
        self._entries: dict[str, Entry] = {}
        self._listed: set[str] = set()
        self._listing = threading.Lock()  # several ask at once

    def find(self, glob: str) -> list[str]:
        """The names that match, sorted."""
        literal = glob.partition("*")[0].rpartition("/")[0]
        if "/" in glob[len(literal) + bool(literal) :]:
            self._keep(lambda: (entry for chunk in obstore.list(self._objects, literal or None) for entry in chunk))
        else:
            self._list_folder(literal)
        wanted = re.compile("[^/]*".join(map(re.escape, glob.split("*"))))
        return sorted(name for name in self._entries if wanted.fullmatch(name))

    def entry(self, name: str) -> Entry | None:
        """An object's size and ETag."""
        if name not in self._entries:
            self._list_folder(name.rpartition("/")[0])
        return self._entries.get(name)

    def inside(self, relative: str, listed_in: str) -> str:
        """A path that a list names, below the prefix."""
        name = posixpath.normpath(relative)
        if name.startswith(("/", "../")) or name in {".", ".."}:
            raise DataRefused(f"'{relative}' lies outside the prefix", where=listed_in, fix="Use relative paths")
        if "\0" in name or len(name.encode()) > 1024:
            raise DataRefused(f"'{relative[:80]}' is no path", where=listed_in, fix="Correct it")
        return name

    def told(self, name: str) -> str:
        """The full URI."""
        return f"{self.uri}/{name}".rstrip("/")

    def read(self, name: str) -> bytes:
        """An object's bytes."""
        try:
            return bytes(obstore.get(self._objects, name).bytes())
        except (FileNotFoundError, BaseError) as error:
            raise self._failure(name, error) from error

    def fetch(self, name: str, folder: Path) -> Path:
        """An object, streamed to a file in the workspace folder."""
        entry = self.entry(name)
        if entry is None:
            raise DataRefused("there is no such object", where=self.told(name), fix="Correct the list or bring it")
        target = folder / (json_digest(name)[:SHORT] + Path(name).suffix)
        try:
            answer = obstore.get(self._objects, name, options={"if_match": entry.stamp})
            with target.open("wb") as stream:
                for chunk in answer.stream(min_chunk_size=_CHUNK):
                    stream.write(chunk)
        except (FileNotFoundError, BaseError) as error:
            raise self._failure(name, error) from error
        except OSError as error:
            raise TemporaryFailure(
                f"the workspace cannot be written ({error.strerror})",
                where=str(folder),
                fix="Point TMPDIR to a larger disk, then run the step again",
            ) from error
        if target.stat().st_size != entry.size:
            raise TemporaryFailure(
                f"the source sent {target.stat().st_size} of {entry.size} bytes",
                where=self.told(name),
                fix="Run the step again",
            )
        return target

    def _list_folder(self, folder: str) -> None:
        """Take up the objects that lie in a folder itself."""
        with self._listing:
            if folder not in self._listed:
                self._keep(lambda: obstore.list_with_delimiter(self._objects, folder or None)["objects"])
                self._listed.add(folder)

    def _keep(self, listed: Any) -> None:
        try:
            found: Iterable[Any] = listed()
            for entry in found:
                stamp = entry["e_tag"] or entry["last_modified"].isoformat()
                self._entries[str(entry["path"])] = Entry(int(entry["size"]), str(stamp))
        except (FileNotFoundError, BaseError) as error:
            raise failure(self.uri, error, "source") from error

    def _failure(self, name: str, error: Exception) -> Exception:
        if isinstance(error, FileNotFoundError | PreconditionError):
            return DataRefused(
                "the object has gone or changed since it was listed", where=self.told(name), fix="Run the step again"
            )
        return failure(self.told(name), error, "source")
