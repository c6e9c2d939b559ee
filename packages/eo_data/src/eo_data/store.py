"""The store (design 4.2): one root, `file://` or `s3://`, objects written once and never edited.

Every write is put-if-absent and atomic: a reader sees the whole object or nothing, also when the writer is
killed. What consists of several objects is written objects first, manifest last; readers look for manifests.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, S3Store
from pydantic import BaseModel, ValidationError

from eo_data.digests import canonical_json
from eo_data.errors import DataRefused, TemporaryFailure, TerraloopError, UsageError
from eo_data.object_storage import obstore_options

_IN_ONE_PIECE = 64 * 2**20
"""Bytes of a file that go to S3 in one request, put-if-absent; larger ones go in parts."""

_FULL = ("No space left", "Disk quota exceeded", "StorageFull", "InsufficientStorage", "QuotaExceeded")
"""What disks and S3 servers say when they are full."""

Record = TypeVar("Record", bound=BaseModel)


def as_uri(path_or_uri: str) -> str:
    """A URI as it is; a plain path as an absolute `file://` URI, relative to the working directory."""
    if "://" in path_or_uri:
        return path_or_uri.rstrip("/")
    return Path(path_or_uri).expanduser().resolve().as_uri()


def local_path(uri: str) -> Path:
    """The path of a `file://` URI or plain path.

    Raises:
        UsageError: If the URI has another scheme or names another machine.
    """
    parts = urlsplit(as_uri(uri))
    if parts.scheme != "file":
        raise UsageError(f"'{parts.scheme}://' cannot be read here", where=uri, fix="Give a file:// URI or a path")
    if parts.netloc not in {"", "localhost"}:
        raise UsageError(f"'{parts.netloc}' is another machine", where=uri, fix="A local file:// URI has three slashes")
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))


class Store:
    """A root of objects, addressed by keys such as `batches/1f.json` or by full URIs.

    Args:
        uri: `file:///folder`, `s3://bucket[/prefix]` or a plain path. The folder is made if it is not there.

    Raises:
        UsageError: If the scheme is not one of these.
    """

    def __init__(self, uri: str) -> None:
        self.uri = as_uri(uri)
        scheme = urlsplit(self.uri).scheme
        self._objects: LocalStore | S3Store
        if scheme == "file":
            root = local_path(self.uri)
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(
                    f"the store's folder cannot be made ({error.strerror})",
                    where=self.uri,
                    fix="Choose another --store",
                ) from error
            self._objects = LocalStore(root)
        elif scheme == "s3" and urlsplit(self.uri).netloc:
            self._objects = S3Store.from_url(self.uri, **obstore_options())
        else:
            raise UsageError("this is no store", where=self.uri, fix="Use file:///FOLDER or s3://BUCKET")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and other.uri == self.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:  # to a worker it goes as its URI
        return (Store, (self.uri,))

    def resolve(self, key: str) -> str:
        """The full URI of a key."""
        return f"{self.uri}/{key}"

    def key(self, uri: str) -> str:
        """The key of a full URI or of a path to an object; a key as it is.

        Raises:
            UsageError: If the URI lies outside this store.
        """
        full = as_uri(uri)
        if "://" not in uri and not uri.startswith(("/", "./", "../")):
            # From inside a store's folder a key may look like a path, and a path from outside like a key.
            is_path = full.startswith(self.uri + "/") and Path(uri).exists()
            full = full if is_path else self.resolve(uri.rstrip("/"))
        key = full[len(self.uri) + 1 :]
        if not full.startswith(self.uri + "/") or {"", ".", ".."} & set(key.split("/")):
            raise UsageError("this lies outside the store", where=uri, fix=f"Give a URI under {self.uri}")
        return key

    def exists(self, key: str) -> bool:
        """Whether an object is there."""
        try:
            obstore.head(self._objects, key)
        except (FileNotFoundError, BaseError) as error:
            if _is_absent(error):
                return False
            raise failure(self.resolve(key), error) from error
        return True

    def get(self, key: str) -> bytes:
        """An object's bytes.

        Raises:
            DataRefused: If it is not there.
            TemporaryFailure: If the store is out of reach.
        """
        try:
            return bytes(obstore.get(self._objects, key).bytes())
        except (FileNotFoundError, BaseError) as error:
            if _is_absent(error):
                raise DataRefused(
                    "there is no such object", where=self.resolve(key), fix="Run the step that makes it first"
                ) from error
            raise failure(self.resolve(key), error) from error

    def put_new(self, key: str, data: bytes | Path) -> bool:
        """Write an object unless it is there; returns whether it was written.

        Args:
            key: Where.
            data: The bytes, or a local file whose bytes they are.

        Raises:
            DataRefused: If the local file has gone, or changed while it was read.
            TemporaryFailure: If the store is out of reach, or full.
        """
        try:
            if isinstance(data, Path):
                return self._put_file(key, data)
            obstore.put(self._objects, key, data, mode="create", use_multipart=False)
        except (AlreadyExistsError, FileExistsError):
            return False
        except (BaseError, OSError) as error:
            raise failure(self.resolve(key), error) from error
        return True

    def _put_file(self, key: str, source: Path) -> bool:
        """Write a local file's bytes, never all of them in memory."""
        try:
            before = source.stat()
            if isinstance(self._objects, LocalStore):
                return self._link_file(key, source, before)
            if before.st_size <= _IN_ONE_PIECE:
                obstore.put(self._objects, key, source.read_bytes(), mode="create", use_multipart=False)
                return True
        except FileNotFoundError as error:
            raise DataRefused("there is no such file any more", where=str(source), fix="Run the step again") from error
        # S3 has no conditional upload in parts. Only keys that name their content hold large objects: of two
        # writers the second changes nothing.
        if self.exists(key):
            return False
        obstore.put(self._objects, key, source, use_multipart=True)
        return True

    def _link_file(self, key: str, source: Path, before: os.stat_result) -> bool:
        """Copy a file beside its key, then give it its name, which fails where there is one."""
        target = local_path(self.uri) / key
        if target.exists():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        # obstore lists no file whose name ends so: it names its own unfinished files in the same way.
        unfinished = target.with_name(f"{target.name}#{int.from_bytes(os.urandom(7), 'big')}")
        try:
            shutil.copyfile(source, unfinished)
            after = source.stat()
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise DataRefused("the file changed while it was read", where=str(source), fix="Run the step again")
            os.link(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
        return True

    def list(self, prefix: str) -> list[str]:
        """The keys under a prefix (whole path segments), sorted."""
        try:
            return sorted(
                str(entry["path"]) for chunk in obstore.list(self._objects, prefix.rstrip("/")) for entry in chunk
            )
        except FileNotFoundError:
            return []
        except BaseError as error:
            raise failure(self.resolve(prefix), error) from error

    def get_json(self, key: str) -> dict[str, Any]:
        """An object that is one JSON object.

        Raises:
            DataRefused: If it is not there or no JSON object.
        """
        try:
            value = json.loads(self.get(key))
        except ValueError as error:
            raise DataRefused(f"this is no JSON ({error})", where=self.resolve(key)) from error
        if not isinstance(value, dict):
            raise DataRefused("this is no JSON object", where=self.resolve(key))
        return value

    def get_record(self, key: str, model: type[Record]) -> Record:
        """A JSON object as the record that it should be.

        Raises:
            DataRefused: If it is not there or is another kind of object.
        """
        try:
            return model.model_validate(self.get_json(key))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise DataRefused(
                f"this is no {model.__name__.lower()} record ({'.'.join(map(str, fault['loc']))}: {fault['msg']})",
                where=self.resolve(key),
                fix="Check which URI was given, or make it anew with this release",
            ) from error

    def put_json_new(self, key: str, value: dict[str, Any]) -> bool:
        """Write a JSON object (canonical form) unless it is there; returns whether it was written."""
        return self.put_new(key, canonical_json(value))

    def raster_path(self, key: str) -> str:
        """What rasterio opens: a path for `file://`, `/vsis3/...` for `s3://`."""
        if self.uri.startswith("file://"):
            return str(local_path(self.uri) / key)
        return f"/vsis3/{self.uri.removeprefix('s3://')}/{key}"


def failure(uri: str, error: Exception, what: str = "store") -> TerraloopError:
    """What to tell of an error of obstore's, or of the disk's.

    Args:
        uri: What was read or written.
        error: What came of it.
        what: What it lies in, for the message.
    """
    said = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
        return UsageError(f"the {what} refuses access ({said})", where=uri, fix="Check its credentials and permissions")
    if "NoSuchBucket" in str(error):
        return UsageError("there is no such bucket", where=uri, fix="Check its name, or make it")
    if any(sign in str(error) for sign in _FULL):
        return TemporaryFailure(f"the {what} is full ({said})", where=uri, fix="Make room, then run the step again")
    return TemporaryFailure(
        f"the {what} did not answer ({said})",
        where=uri,
        fix="Check that it is running and reachable, then run the step again",
    )


def _is_absent(error: Exception) -> bool:
    """Whether an object is not there; in a folder also because a file stands where a folder would have to."""
    return isinstance(error, FileNotFoundError) or "Not a directory" in str(error)
