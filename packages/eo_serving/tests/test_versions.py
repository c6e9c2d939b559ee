"""Versions come from a real registry, checked, and are kept whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_data.store import Store
from eo_serving.versions import Versions, read_version


@pytest.fixture
def versions(registry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Versions:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking)
    return Versions(tmp_path / "versions", registry.store, "water")


def test_the_champion_is_the_ledgers(versions: Versions, registry: Any) -> None:
    kept = versions.obtain(None)
    assert (kept.label, kept.digest) == ("water/2", registry.versions[2].digest)
    assert versions.obtain("models:/water@champion") == kept
    assert versions.obtain("models:/water@previous").label == "water/1"
    assert read_version(versions.path(kept)) == registry.versions[2]


def test_a_promoted_version_is_kept_without_asking_the_registry_again(
    versions: Versions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = versions.obtain(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/nowhere/none.db")
    assert versions.obtain(None) == kept


@pytest.mark.parametrize("name", ["model.onnx", "model.json", "version.json"])
@pytest.mark.parametrize("content", [None, b"", b"changed"])
def test_a_kept_version_that_was_changed_is_fetched_again(
    versions: Versions, registry: Any, name: str, content: bytes | None
) -> None:
    kept = versions.obtain(None)
    path = versions.path(kept) / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataRefused, match="kept version"):
        read_version(versions.path(kept))
    assert read_version(versions.path(versions.obtain(None))) == registry.versions[2]


def test_others_are_refused(versions: Versions) -> None:
    with pytest.raises(DataRefused, match="no such model version"):
        versions.obtain("models:/water/99")
    with pytest.raises(DataRefused, match="sha256"):
        versions.obtain("models:/water/5")
    with pytest.raises(UsageError, match="serves 'water'"):
        versions.obtain("models:/other/1")
    for text in ("water/1", "models:/water@latest", "models:/../water/1", "models:/water/1/../2"):
        with pytest.raises(UsageError):
            versions.obtain(text)


def test_files_that_are_not_those_promoted_are_refused(registry: Any, tmp_path: Path, versions: Versions) -> None:
    from eo_data.model.ledger import Ledger

    store = Store(str(tmp_path / "store"))
    Ledger(store, "water").append(after=0, version=1, reason="gate", model_digest="1" * 64, description_digest="2" * 64)
    with pytest.raises(DataRefused, match="the ledger promoted 111111111111"):
        Versions(tmp_path / "versions", store, "water").obtain(None)


def test_no_champion_yet(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="no champion yet"):
        Versions(tmp_path / "versions", Store(str(tmp_path / "store")), "water").obtain(None)


def test_a_registry_out_of_reach_is_temporary(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TemporaryFailure, match="registry did not answer"):
        versions.obtain(None)


def test_pruning_keeps_what_is_served(versions: Versions) -> None:
    one, two, three = (versions.obtain(f"models:/water/{n}") for n in (1, 2, 3))
    versions.prune(three, two)
    assert [versions.path(v).is_dir() for v in (one, two, three)] == [False, True, True]
