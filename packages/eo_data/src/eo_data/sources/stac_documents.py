"""STAC documents over HTTP, from S3 and from disk: an API, a static catalog, a collection of items, an item."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_data.sources.remote_rasters import is_remote, plain
from eo_data.sources.stac_items import require_item
from eo_data.sources.stac_search import StacSearch
from eo_data.store import local_path

if TYPE_CHECKING:
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

_PAGE = 100
"""Items per request to an API."""


@dataclass(frozen=True)
class Found:
    """An item of a source, or why it is none.

    Attributes:
        where: Where it was read; relative hrefs start there.
        item: The item; None where it has a fault.
        fault: What is wrong with it.
    """

    where: str
    item: dict[str, Any] | None = None
    fault: DataRefused | None = None


class StacDocuments:
    """Reads STAC documents; what an overloaded server refuses is asked for again."""

    def __init__(self) -> None:
        from pystac_client.stac_api_io import StacApiIO
        from requests import adapters

        again = adapters.Retry(  # type: ignore[attr-defined]  # urllib3's, which is no dependency of ours
            total=4, backoff_factor=0.5, status_forcelist=(408, 429, 500, 502, 503, 504), allowed_methods=None
        )  # a search by POST changes nothing
        self._io: StacApiIO = StacApiIO(timeout=(10.0, 60.0), max_retries=again)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._io.session.close()

    def find(self, uri: str, search: StacSearch) -> Iterator[Found]:
        """The items that a source offers and a search looks for, in the source's order.

        Args:
            uri: http(s)://, s3:// or file:// URI or path of a STAC API's root, catalog, collection, item collection
                or item; a folder stands for its catalog.json or collection.json.
            search: What is looked for.

        Raises:
            DataRefused: If the source, or a catalog in it, is no STAC document or cannot be read.
            TemporaryFailure: If a server does not answer.
            UsageError: If there is no such file.
        """
        where = _document_of(uri)
        document = self.read(where)
        if any("item-search" in str(name) for name in document.get("conformsTo") or []):
            found = self._search(where, document, search)
        elif document.get("type") in {"FeatureCollection", "ItemCollection"}:
            found = self._features(where, document, search)
        elif document.get("type") == "Feature":
            found = _judged(document, where, search)
        elif "stac_version" in document and "links" in document:
            found = self._walk(where, document, search, set())
        else:
            raise DataRefused("this is no STAC document", where=plain(where), fix="Give an API, a catalog or an item")
        left = search.limit
        for one in found:
            yield one
            left = left - 1 if left is not None and one.item is not None else left
            if left == 0:
                return

    def read(self, where: str) -> dict[str, Any]:
        """A JSON object.

        Raises:
            DataRefused: If it is not there, or is none.
            TemporaryFailure: If its server does not answer.
        """
        text = self._text(where)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            page = text.lstrip()[:14].lower().startswith(("<!doctype html", "<html"))
            what = "this is an HTML page, no JSON" if page else "this is no JSON"
            raise DataRefused(what, where=plain(where), fix="Check the address in a browser") from error
        if not isinstance(document, dict):
            raise DataRefused("this is no JSON object", where=plain(where), fix="Give a STAC document")
        return document

    def _text(self, where: str) -> str:
        if where.startswith("s3://"):
            return _s3_text(where)
        if not is_remote(where):
            try:
                return Path(where).read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                said = getattr(error, "strerror", None) or "no UTF-8"
                raise DataRefused(f"the document cannot be read ({said})", where=where, fix="Check the path") from error
        from pystac_client.exceptions import APIError

        try:
            return self._io.read_text(where)
        except APIError as error:
            raise _http_failure(where, error) from error

    def _search(self, where: str, root: dict[str, Any], search: StacSearch) -> Iterator[Found]:
        """An API does the search itself."""
        from pystac import STACError
        from pystac_client import Client
        from pystac_client.errors import ClientTypeError
        from pystac_client.exceptions import APIError

        posts = any(link.get("rel") == "search" and link.get("method") == "POST" for link in _links(root, ("search",)))
        try:
            pages = Client.open(where, stac_io=self._io).search(
                method="POST" if posts else "GET",
                bbox=search.bbox,
                datetime=search.interval,
                collections=list(search.collections) or None,
                max_items=search.limit,
                limit=min(search.limit or _PAGE, _PAGE),
            )
            for document in pages.items_as_dicts():
                place = next((link["href"] for link in _links(document, ("self",)) if is_remote(link["href"])), None)
                yield from _judged(document, place or f"{where.rstrip('/')}/{document.get('id')}", StacSearch())
        except APIError as error:
            raise _http_failure(where, error) from error
        except (ClientTypeError, STACError, ValueError, KeyError, TypeError, AttributeError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise DataRefused(
                f"this is no answer of a STAC API ({said})", where=plain(where), fix="Check --source"
            ) from error

    def _features(self, where: str, document: dict[str, Any], search: StacSearch) -> Iterator[Found]:
        """The items of a collection of items, page by page where a server gives pages."""
        seen = {where}
        page: dict[str, Any] | None = document
        while page is not None:
            for item in page.get("features") or []:
                place = next((link["href"] for link in _links(item, ("self",)) if is_remote(link["href"])), where)
                yield from _judged(item, place, search)
            following = [_absolute(link["href"], where) for link in _links(page, ("next",)) if _is_get(link)]
            page = None
            if is_remote(where) and following and following[0] not in seen:
                seen.add(following[0])
                page = self.read(following[0])

    def _walk(self, where: str, catalog: dict[str, Any], search: StacSearch, seen: set[str]) -> Iterator[Found]:
        """The items of a static catalog, each once, deeper catalogs after its own items."""
        seen.add(where)
        for link in _links(catalog, ("item",)):
            try:
                place = _linked(link["href"], where)
                if place in seen:
                    continue
                seen.add(place)
                document = self.read(place)
            except DataRefused as fault:
                yield Found(link["href"], fault=fault)
                continue
            yield from _judged(document, place, search)
        for link in _links(catalog, ("child",)):
            place = _linked(link["href"], where)
            if place not in seen:
                yield from self._walk(place, self.read(place), search, seen)


def _judged(document: Any, where: str, search: StacSearch) -> Iterator[Found]:
    """The document as an item, its assets' hrefs absolute; nothing where it is not looked for."""
    try:
        item = require_item(document, plain(where))
    except DataRefused as fault:
        yield Found(where, fault=fault)
        return
    if search.matches(item):
        assets = {key: {**asset, "href": _absolute(asset["href"], where)} for key, asset in item["assets"].items()}
        yield Found(where, {**item, "assets": assets})


def _document_of(uri: str) -> str:
    """Where a source's first document lies: an http(s) or s3 URI as it is, else an absolute path.

    Raises:
        UsageError: If there is no such file.
    """
    if is_remote(uri):
        return uri
    path = local_path(uri)
    for name in ("catalog.json", "collection.json") if path.is_dir() else ():
        if (path / name).is_file():
            return str(path / name)
    if not path.is_file():
        raise UsageError("there is no such STAC document", where=str(path), fix="Check --source")
    return str(path)


def _links(document: Any, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    links = document.get("links") if isinstance(document, dict) else None
    return [
        link
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and link.get("rel") in kinds and isinstance(link.get("href"), str)
    ]


def _is_get(link: dict[str, Any]) -> bool:
    return str(link.get("method", "GET")).upper() == "GET"


def _absolute(href: str, where: str) -> str:
    from pystac.utils import make_absolute_href

    return str(make_absolute_href(href, where, start_is_dir=False))


def _linked(href: str, where: str) -> str:
    """The document that a catalog links: a URI, or a path, which only a document of this machine may link.

    Raises:
        DataRefused: If a document of the network links a file of this machine, or the link is none.
    """
    try:
        place = _absolute(href, where)
        if not place.startswith("file:"):
            return place
        if not is_remote(where):
            return str(local_path(place))
    except (UsageError, ValueError) as error:
        raise DataRefused(f"the link '{href}' cannot be read", where=plain(where), fix="Correct the link") from error
    raise DataRefused(
        "a document of the network links a file of this machine", where=plain(where), fix="Correct the link"
    )


def _http_failure(where: str, error: APIError) -> DataRefused | TemporaryFailure:
    status = getattr(error, "status_code", None)
    if status is None or status >= 500 or status in {408, 429}:
        said = f"HTTP {status}" if status else " ".join(str(error).split())[:160]
        return TemporaryFailure(
            f"the server does not answer ({said})", where=plain(where), fix="Run the step again later"
        )
    if status == 404:
        return DataRefused("there is no such document (HTTP 404)", where=plain(where), fix="Check the address")
    said = " ".join(str(error).split())[:200]
    return DataRefused(f"the server refuses (HTTP {status}: {said})", where=plain(where), fix="Check the search")


def _s3_text(where: str) -> str:
    import obstore
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
    from obstore.store import S3Store

    from eo_data.object_storage import obstore_options

    bucket, _, key = where.removeprefix("s3://").partition("/")
    try:
        return bytes(obstore.get(S3Store(bucket, **obstore_options()), key).bytes()).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataRefused("there is no such document", where=where, fix="Check the address") from error
    except UnicodeDecodeError as error:
        raise DataRefused("the document is no UTF-8", where=where, fix="Write it anew") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise DataRefused(
            "the object storage refuses access", where=where, fix="Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except BaseError as error:
        raise TemporaryFailure(
            "the object storage does not answer", where=where, fix="Run the step again later"
        ) from error
