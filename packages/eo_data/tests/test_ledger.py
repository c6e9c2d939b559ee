"""The promotion ledger: entries follow one another, of two at once one wins, and nobody edits it unseen."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Any

import pytest

from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.model.files import parse_model_uri
from eo_data.model.ledger import Ledger, Promotion
from eo_data.store import Store


def promote(ledger: Ledger, version: int, after: int, **more: Any) -> Promotion:
    return ledger.append(
        after=after, version=version, model_digest=f"{version}" * 4, description_digest="d",
        **{"reason": "gate", **more},
    )  # fmt: skip


def test_an_empty_ledger_has_no_champion(store: Store) -> None:
    ledger = Ledger(store, "water")
    assert (ledger.entries(), ledger.champion(), ledger.previous()) == ([], None, None)
    with pytest.raises(DataRefused, match="the ledger of 'water' has no champion yet"):
        parse_model_uri("models:/water@champion", store)


def test_the_newest_entry_is_champion_and_the_version_before_it_previous(store: Store) -> None:
    ledger = Ledger(store, "water")
    first = promote(ledger, 1, 0, reason="bootstrap")
    assert ledger.champion() == first
    assert ledger.previous() is None
    second = promote(ledger, 3, 1, evaluation="file:///e", verdict={"verdict": "promoted"})
    assert (ledger.champion(), ledger.previous()) == (second, first)
    promote(ledger, 3, 2)  # the same version once more
    previous = ledger.previous()
    assert previous is not None
    assert previous.version == 1
    promote(ledger, 1, 3, reason="rollback")
    champion, previous = ledger.champion(), ledger.previous()
    assert champion is not None
    assert previous is not None
    assert (champion.version, champion.number, previous.version) == (1, 4, 3)
    assert [entry.number for entry in ledger.entries()] == [1, 2, 3, 4]
    assert champion.uri == "models:/water/1"
    assert champion.time.tzinfo == UTC
    assert parse_model_uri("models:/water@champion", store) == ("water", 1)
    assert parse_model_uri("models:/water@previous", store) == ("water", 3)


def test_models_do_not_share_a_ledger(store: Store) -> None:
    promote(Ledger(store, "water"), 1, 0)
    assert Ledger(store, "water-hls").entries() == []
    assert Ledger(store, "wat").entries() == []


def test_of_two_that_promote_at_once_one_wins_and_the_other_is_told(store: Store) -> None:
    barrier = threading.Barrier(4)

    def race(version: int) -> list[str]:
        ledger, outcomes = Ledger(Store(store.uri), "water"), []
        for after in range(15):
            barrier.wait()
            try:
                outcomes.append(f"{promote(ledger, version, after).number}")
            except TemporaryFailure as failure:
                outcomes.append(failure.what)
        return outcomes

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(race, range(1, 5)))
    entries = Ledger(store, "water").entries()
    assert len(entries) == 15
    for after, entry in enumerate(entries):
        said = [outcome[after] for outcome in outcomes]
        assert said[entry.version - 1] == str(entry.number)
        assert said.count(f"another promotion of 'water' took entry {entry.number}") == 3


def test_processes_race_like_threads(store: Store) -> None:
    call = """
import sys
from eo_data.errors import TemporaryFailure
from eo_data.model.ledger import Ledger
from eo_data.store import Store
ledger = Ledger(Store(sys.argv[1]), "water")
print(flush=True)
input()
won = 0
for after in range(10):
    try:
        ledger.append(after=after, version=1, model_digest="m", description_digest="d", reason="gate")
        won += 1
    except TemporaryFailure:
        pass
print(won)
"""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", call, store.uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    assert sum(int(racer.communicate("\n")[0]) for racer in racers) == 10
    assert len(Ledger(store, "water").entries()) == 10


def test_a_gap_is_never_written(store: Store) -> None:
    ledger = Ledger(store, "water")
    promote(ledger, 1, 0)
    with pytest.raises(DataRefused, match="no entry 2 to follow"):
        promote(ledger, 2, 2)
    assert store.list("promotions") == ["promotions/water/1.json"]


@pytest.mark.parametrize("strange", ["3.json", "01.json", "1.json.bak", "notes.txt", "2/x.json"])
def test_a_ledger_that_was_edited_is_refused(store: Store, strange: str) -> None:
    ledger = Ledger(store, "water")
    promote(ledger, 1, 0)
    store.put_new(f"promotions/water/{strange}", b"{}")
    with pytest.raises(DataRefused, match=rf"promotions/water: .*{strange}"):
        ledger.champion()


@pytest.mark.parametrize("data", [b"", b"{}", b'{"number": 1, "extra": 2}', b"[]"])
def test_a_spoilt_entry_is_refused_by_its_uri(store: Store, data: bytes) -> None:
    store.put_new("promotions/water/1.json", data)
    with pytest.raises(DataRefused, match=r"promotions/water/1\.json"):
        Ledger(store, "water").champion()


def test_entries_are_never_overwritten(store: Store) -> None:
    ledger = Ledger(store, "water")
    promote(ledger, 1, 0)
    before = store.get("promotions/water/1.json")
    with pytest.raises(TemporaryFailure, match="took entry 1"):
        promote(ledger, 2, 0)
    assert store.get("promotions/water/1.json") == before
