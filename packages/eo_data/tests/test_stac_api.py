"""A STAC API on a real socket: searched, paged, asked again when it is overloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.sources.stac import StacSource
from eo_data.usecase import DataSection, UseCase

from .conftest import ROOT
from .range_server import RangeServer
from .sentinel2_files import scene_item

_CORE = "https://api.stacspec.org/v1.0.0/core"
_SEARCH = "https://api.stacspec.org/v1.0.0/item-search"


class StacApi:
    """The least that is a STAC API: a root that conforms to item-search, and a search in pages of two."""

    def __init__(self, server: RangeServer, methods: tuple[str, ...] = ("GET", "POST")) -> None:
        self.server = server
        self.items = [scene_item(f"scene-{number}") for number in range(5)]
        self.searches: list[dict[str, Any]] = []
        server.answers |= {"/": lambda *_: self._root(methods), "/search": self._search}

    def _root(self, methods: tuple[str, ...]) -> dict[str, Any]:
        search = f"{self.server.url}/search"
        links: list[dict[str, str]] = [
            {"rel": "search", "type": "application/geo+json", "href": search, "method": one} for one in methods
        ]
        links += [{"rel": rel, "href": f"{self.server.url}/"} for rel in ("self", "root")]
        return {
            "type": "Catalog", "id": "api", "description": "-", "stac_version": "1.0.0", "links": links,
            "conformsTo": [_CORE, _SEARCH],
        }  # fmt: skip

    def _search(self, query: dict[str, list[str]], body: bytes) -> dict[str, Any]:
        asked = json.loads(body) if body else {name: values[0] for name, values in query.items()}
        self.searches.append(asked)
        wanted = asked.get("collections", [])
        wanted = wanted.split(",") if isinstance(wanted, str) else wanted
        hits = [item for item in self.items if not wanted or item["collection"] in wanted]
        first = int(asked.get("token", 0))
        size = min(2, int(asked.get("limit", 2)))
        links: list[dict[str, Any]] = []
        if first + size < len(hits):
            link: dict[str, Any] = {
                "rel": "next",
                "href": f"{self.server.url}/search",
                "method": "POST" if body else "GET",
            }
            if body:
                link |= {"body": {**asked, "token": first + size}}
            else:
                link["href"] += f"?token={first + size}"
            links.append(link)
        for item in self.items:
            item["links"] = [{"rel": "self", "href": f"{self.server.url}/collections/c/items/{item['id']}"}]
        return {"type": "FeatureCollection", "features": hits[first : first + size], "links": links}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    with RangeServer(tmp_path) as running:
        yield running


@pytest.fixture
def l2a() -> DataSection:
    return UseCase.load(str(ROOT / "usecases" / "water-l2a")).data


@pytest.mark.parametrize("methods", [("GET", "POST"), ("GET",)])
def test_every_page_of_a_search_is_read_also_where_the_server_stumbles(
    server: RangeServer, l2a: DataSection, methods: tuple[str, ...]
) -> None:
    api = StacApi(server, methods)
    server.failures["/search"] = [500, 429]
    source = StacSource(
        server.url, l2a, bbox=(10.3, 45.9, 10.4, 46.0), datetime="2024-07", collections=("sentinel-2-c1-l2a",)
    )
    candidates = source.candidates()
    assert [candidate.id for candidate in candidates] == [f"scene-{number}" for number in range(5)]
    assert candidates[0].where == f"{server.url}/collections/c/items/scene-0"
    assert candidates[0].fingerprint is not None
    assert candidates[0].item is not None
    assert candidates[0].item["assets"]["blue"]["href"] == f"{server.url}/collections/c/items/B02.tif"
    asked = api.searches[0]
    assert asked["datetime"] == "2024-07-01T00:00:00Z/2024-07-31T23:59:59Z"
    assert asked["bbox"] in ([10.3, 45.9, 10.4, 46.0], "10.3,45.9,10.4,46.0")
    assert {method for method, path in server.requests if path == "/search"} == {methods[-1]}


def test_no_more_is_asked_for_than_the_limit(server: RangeServer, l2a: DataSection) -> None:
    api = StacApi(server)
    assert len(StacSource(server.url, l2a, limit=3).candidates()) == 3
    assert len(api.searches) == 2


def test_a_search_that_finds_nothing_is_named(server: RangeServer, l2a: DataSection) -> None:
    StacApi(server)
    with pytest.raises(DataRefused, match=r"no scene is found \(collections sentinel-1\)"):
        StacSource(server.url, l2a, collections=("sentinel-1",)).candidates()


def test_an_item_of_the_api_with_a_fault_bears_it(server: RangeServer, l2a: DataSection) -> None:
    StacApi(server).items[2]["assets"] = {}
    told = [str(candidate.fault) for candidate in StacSource(server.url, l2a).candidates() if candidate.fault]
    assert len(told) == 1
    assert "the item has no assets" in told[0]


@pytest.mark.parametrize(
    ("status", "error"), [(400, DataRefused), (404, DataRefused), (500, TemporaryFailure), (503, TemporaryFailure)]
)
def test_a_server_that_refuses_is_told_from_one_that_is_down(
    server: RangeServer, l2a: DataSection, status: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    StacApi(server)
    server.failures["/search"] = [status] * 20
    with pytest.raises(error) as caught:
        StacSource(server.url, l2a).candidates()
    assert getattr(caught.value, "where", "") == server.url
    with pytest.raises(TemporaryFailure, match="does not answer"):
        StacSource("http://127.0.0.1:9/", l2a).candidates()


def test_pages_of_items_are_followed_without_an_api(server: RangeServer, l2a: DataSection) -> None:
    pages: list[dict[str, Any]] = [{"features": [scene_item("a")]}, {"features": [scene_item("b")]}]
    pages[0]["links"] = [{"rel": "next", "href": "/items?page=1"}]

    def answer(query: dict[str, list[str]], body: bytes) -> dict[str, Any]:
        return {"type": "FeatureCollection", **pages[int(query.get("page", ["0"])[0])]}

    server.answers["/items"] = answer
    candidates = StacSource(f"{server.url}/items", l2a).candidates()
    assert [candidate.id for candidate in candidates] == ["a", "b"]


@pytest.mark.parametrize(
    ("page", "answer"),
    [
        ("/search", "<html>Please log in</html>"),
        ("/", {"type": "Collection", "conformsTo": [_CORE, _SEARCH], "links": []}),
    ],
)
def test_what_is_no_answer_of_an_api_is_refused_by_address(
    server: RangeServer, l2a: DataSection, page: str, answer: Any
) -> None:
    StacApi(server)
    server.answers[page] = lambda *_: answer
    with pytest.raises(DataRefused, match=r"http://127.0.0.1:\d+/: this is no answer of a STAC API"):
        StacSource(f"{server.url}/", l2a).candidates()


@pytest.mark.parametrize(
    "wrong",
    [{"bbox": ["1", "2", "3", "4"]}, {"assets": {"a": {"href": "a.tif", "eo:bands": 5}}},
     {"assets": {"a": {"href": "a.tif", "roles": [{}]}}}, {"collection": 7}],
)  # fmt: skip
def test_an_item_of_another_shape_is_refused_and_the_others_go_on(
    server: RangeServer, l2a: DataSection, wrong: dict[str, Any]
) -> None:
    api = StacApi(server)
    api.items[1] |= wrong
    found = StacSource(f"{server.url}/", l2a, bbox=(-180, -90, 180, 90)).candidates()
    assert len(found) == 5
    faults = [candidate.fault.what for candidate in found if candidate.fault is not None]
    assert any(fault.startswith("the item is not what STAC says (") for fault in faults)
