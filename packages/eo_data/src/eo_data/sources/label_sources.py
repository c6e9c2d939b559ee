"""Where labels come from: a folder of rasters by scene id, one map, or one file of polygons; here or on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote, urlsplit

from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_data.sources.candidate import source_name
from eo_data.sources.folder import FolderListing
from eo_data.sources.patterns import matches
from eo_data.sources.prefix import PrefixListing
from eo_data.sources.remote_rasters import plain
from eo_data.store import Store, as_uri, local_path
from eo_data.usecase import DataSection

if TYPE_CHECKING:
    import requests

MAPS: Final = (".tif", ".tiff")
POLYGONS: Final = (".geojson", ".json", ".gpkg", ".fgb", ".shp")

_TIMEOUT: Final = 30
"""Seconds that a server may be silent."""


@dataclass(frozen=True)
class LabelFile:
    """A label raster of one scene, named by its id.

    Attributes:
        id: The scene's id.
        where: Path or URI of the raster, for messages.
        fetch: What gives it as a file of this machine; it may lie in the workspace folder that is named.
    """

    id: str
    where: str
    fetch: Callable[[Path], Path]


class LabelSource:
    """What a URI of labels names.

    Args:
        uri: A path, `file://`, `s3://`, or for one file `http://` and `https://`.

    Attributes:
        uri: The URI as it was given.
        where: The URI without its secrets, for messages and records.
        kind: What it holds.
        name: A short name of it, for the store.
        remote: Whether it is read over a network.

    Raises:
        UsageError: If it is none of these, or is not there.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.where = plain(uri)
        self._full = full = as_uri(uri)
        parts = urlsplit(full)
        self._scheme = parts.scheme
        self.remote = parts.scheme in {"http", "https", "s3"}
        path = PurePosixPath(unquote(parts.path)) if self.remote else local_path(full)
        self.kind = self._kind(path)
        stem = path.stem if self.kind != "folder" else path.name or parts.netloc
        self.name = source_name(stem, "labels")

    def _kind(self, path: PurePosixPath | Path) -> Literal["folder", "map", "polygons"]:
        if isinstance(path, Path) and not path.exists():
            raise UsageError(
                "there is no such file or folder", where=f"--labels {plain(self.uri)}", fix="Check the path"
            )
        suffix = path.suffix.lower()
        if suffix in (*MAPS, *POLYGONS) and not (isinstance(path, Path) and path.is_dir()):
            return "map" if suffix in MAPS else "polygons"
        if self._scheme == "s3" or (isinstance(path, Path) and path.is_dir()):
            return "folder"
        raise UsageError(
            f"'{suffix or path.name}' is no kind of labels",
            where=f"--labels {plain(self.uri)}",
            fix=f"Give a map ({', '.join(MAPS)}), polygons ({', '.join(POLYGONS)}), or a folder of rasters",
        )

    def raster_path(self) -> str:
        """What rasterio opens of a map, by range requests where it is remote.

        Raises:
            DataRefused: If it is not there.
            TemporaryFailure: If its server does not answer.
        """
        if self._scheme == "s3":
            store, key = self._object()
            if not store.exists(key):
                raise DataRefused("there is no such object", where=self.where, fix="Check --labels")
            return store.raster_path(key)
        if self.remote:
            with _answer(self.uri, {"Range": "bytes=0-15"}):  # GDAL would not say whether it is absent or out of reach
                return f"/vsicurl/{self.uri}"
        return str(local_path(self.uri))

    def fetched(self, folder: Path) -> Path:
        """The file on this machine: as it is, or brought into a folder.

        Raises:
            DataRefused: If it is not there, or consists of several files on a server.
            TemporaryFailure: If its server does not answer.
        """
        if not self.remote:
            return local_path(self.uri)
        target = folder / f"labels{PurePosixPath(urlsplit(self.uri).path).suffix.lower()}"
        if target.suffix == ".shp":
            raise DataRefused("a shapefile is several files", where=self.where, fix="Give it as one, a .gpkg")
        if self._scheme == "s3":
            store, key = self._object()
            target.write_bytes(store.get(key))
            return target
        with _answer(self.uri, {}) as answer, target.open("wb") as file:
            for chunk in answer.iter_content(1 << 20):
                file.write(chunk)
        return target

    def files(self, data: DataSection) -> list[LabelFile]:
        """The rasters of a folder, sorted by id: by the use case's label patterns, else `ID.tif` at its top.

        The folder may also be the one that the rasters of a pattern lie in.

        Raises:
            DataRefused: If nothing is found, naming what was looked for.
            TemporaryFailure: If a bucket does not answer.
        """
        whole = [folder.label for folder in data.folders]
        last = {name for pattern in whole if "{id}" in (name := pattern.rpartition("/")[2])}
        patterns = list(dict.fromkeys([*whole, *sorted(last, key=len, reverse=True), "{id}.tif"]))
        listing = PrefixListing(self._full) if self._scheme == "s3" else FolderListing(local_path(self._full))
        for pattern in patterns:
            found = [
                LabelFile(scene_id, listing.told(name), partial(listing.fetch, name))
                for scene_id, _, name in matches(listing, pattern)
            ]
            if found:
                return sorted(found, key=lambda file: file.id)
        raise DataRefused(
            f"no label is found (looked for {', '.join(patterns)})",
            where=self.where,
            fix="Check --labels or data.folders",
        )

    def _object(self) -> tuple[Store, str]:
        folder, _, name = self._full.rpartition("/")
        return Store(folder), name


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    """A server's answer, its body not read yet.

    Raises:
        UsageError: If this is no URL.
        DataRefused: If the server refuses.
        TemporaryFailure: If it does not answer, fails, or stops half-way.
    """
    import requests

    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code >= 500 or answer.status_code == 429:
                raise TemporaryFailure(
                    f"the server answers {answer.status_code}", where=plain(url), fix="Try again later"
                )
            if answer.status_code >= 400:
                raise DataRefused(
                    f"the server answers {answer.status_code} {answer.reason}", where=plain(url), fix="Check --labels"
                )
            yield answer
    except requests.RequestException as error:
        if isinstance(error, ValueError):
            raise UsageError("this is no URL", where=plain(url), fix="Check --labels") from error
        raise TemporaryFailure(
            f"the server does not answer ({type(error).__name__})",
            where=plain(url),
            fix="Check the network, then try again",
        ) from error
