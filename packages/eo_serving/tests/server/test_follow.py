"""The endpoint follows the ledger by itself; a champion that fails its test, or a lost ledger, changes nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from eo_data.model.ledger import Ledger
from eo_data.store import Store

TIFF = {"Content-Type": "image/tiff"}
SECONDS = 30


@pytest.fixture
def store(registry: Any, tmp_path: Path) -> Store:
    """A store of its own with the registry's ledger, whose champion is version 2."""
    source = Path(urlsplit(registry.store.uri).path)
    shutil.copytree(source, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def promote(registry: Any, store: Store, version: int) -> None:
    files = registry.versions[version]
    ledger = Ledger(store, "water")
    ledger.append(
        after=len(ledger.entries()),
        version=version,
        model_digest=files.digest,
        description_digest=files.description_digest,
        reason="gate",
    )


def eventually(found: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not found():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_follows_the_ledger(start_server: Any, registry: Any, store: Store, tmp_path: Path, tiff_chip: bytes) -> None:
    server = start_server(tmp_path / "state", store=store.uri)
    server.await_status("/readyz", 200)

    def answering() -> str:
        with server.client() as client:
            response = client.post("/invocations", content=tiff_chip, headers=TIFF)
        assert response.status_code == 200, response.text
        return str(response.headers["Terraloop-Model"])

    def says(text: str) -> int:
        return int(server.log.read_text().count(text))

    assert answering() == "water/2"
    promote(registry, store, 1)
    eventually(lambda: answering() == "water/1", "the new champion does not answer")

    promote(registry, store, 4)
    eventually(lambda: says("the champion is not put into service") == 1, "the refused champion is not logged")
    time.sleep(7)  # two more looks: it is neither tried nor logged again
    assert says("the champion is not put into service") == 1
    assert says("models:/water/4 is champion now") == 1
    assert answering() == "water/1"

    promote(registry, store, 3)
    eventually(lambda: answering() == "water/3", "the champion after a refused one does not answer")

    entry = Path(urlsplit(store.uri).path) / "promotions" / "water" / "2.json"
    entry.rename(tmp_path / "2.json")
    eventually(lambda: says("the ledger's entries are not 1 to") == 1, "a damaged ledger is not logged")
    assert answering() == "water/3"
    (tmp_path / "2.json").rename(entry)
    promote(registry, store, 2)
    eventually(lambda: answering() == "water/2", "the mended ledger is not followed")
    server.stop()


def test_a_version_that_was_asked_for_stays(start_server: Any, registry: Any, store: Store, tmp_path: Path) -> None:
    server = start_server(tmp_path / "state", store=store.uri)
    server.await_status("/readyz", 200)
    assert server.reload("models:/water/3").json()["version"] == 3
    promote(registry, store, 1)
    time.sleep(7)
    with server.client() as client:
        assert client.get("/readyz").json()["version"] == 3
    assert server.reload().json()["version"] == 1
    promote(registry, store, 2)
    eventually(lambda: bool(server.await_status("/readyz", 200).json()["version"] == 2), "it does not follow again")
    server.stop()


def test_a_rollback_leaves_the_endpoint_following(
    start_server: Any, registry: Any, store: Store, tmp_path: Path
) -> None:
    """The champion that was rolled back is not taken again, not even by a restart; the next one is."""

    def answering(server: Any) -> int:
        return int(server.await_status("/readyz", 200).json()["version"])

    server = start_server(tmp_path / "state", store=store.uri)
    assert answering(server) == 2
    assert server.roll_back().status_code == 422  # there is no version before
    promote(registry, store, 3)
    eventually(lambda: answering(server) == 3, "the new champion does not answer")
    said = server.roll_back().json()
    assert (said["version"], said["previous"]) == (2, "models:/water/3")
    time.sleep(7)  # two looks at the ledger
    assert answering(server) == 2
    server.stop()
    again = start_server(tmp_path / "state", store=store.uri)
    assert answering(again) == 2
    time.sleep(7)
    assert answering(again) == 2
    promote(registry, store, 1)
    eventually(lambda: answering(again) == 1, "it does not follow any more")
    again.stop()


def test_the_first_champion_is_taken_up(start_server: Any, registry: Any, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "empty"))
    server = start_server(tmp_path / "state", store=store.uri)
    server.await_status("/healthz", 200)
    promote(registry, store, 1)
    assert server.await_status("/readyz", 200).json()["model"] == "water/1"
    server.stop()
