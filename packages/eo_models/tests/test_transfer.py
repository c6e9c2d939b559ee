"""A version as a folder: to another store and registry with equal digests, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from eo_data.errors import DataRefused, UsageError
from eo_data.model.files import DESCRIPTION_TAG, GRAPH_TAG, fetch_model
from eo_data.model.ledger import Ledger
from eo_data.model.session import OnnxModel
from eo_data.store import Store
from eo_models.cli import main
from eo_models.registry import Registry
from eo_models.transfer import export_version, import_version

from .conftest import Pair, World


@pytest.fixture
def elsewhere(tmp_path: Path, empty_database: Path) -> tuple[Store, str]:
    """Another store, and the URI of another registry."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return Store(str(folder / "store")), f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def exported(world: World, pair: Pair, tmp_path: Path) -> Path:
    """The better version as a folder, with something that passes for an evaluation."""
    evaluation = f"evaluations/{pair.better.digest}/{world.dataset.digest}/0123456789abcdef"
    world.store.put_json_new(f"{evaluation}/evaluation.json", {"format": 2})
    world.store.put_new(f"{evaluation}/report.html", b"<html>")
    world.store.put_json_new(f"{evaluation}/verdict-0123456789abcdef.json", {"verdict": "promoted"})
    export_version(world.store, pair.better.uri, str(tmp_path / "out"))
    return tmp_path / "out"


def test_there_and_back_by_command_with_equal_digests(
    world: World,
    pair: Pair,
    exported: Path,
    elsewhere: tuple[Store, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    store, registry = elsewhere
    result = tmp_path / "result.json"
    champion = ["export", "--model", "models:/made-up@champion", "--store", world.store.uri]
    assert main([*champion, "--out", str(tmp_path / "champion"), "--result", str(result)]) == 0
    assert json.loads(result.read_text())["model"] == pair.poor.uri
    assert {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()} == {
        "version.json",
        "model.onnx",
        "model.json",
        "dataset/manifest.json",
        f"evaluations/{world.dataset.digest}/0123456789abcdef/evaluation.json",
        f"evaluations/{world.dataset.digest}/0123456789abcdef/report.html",
        f"evaluations/{world.dataset.digest}/0123456789abcdef/verdict-0123456789abcdef.json",
    }

    original = fetch_model(pair.better.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    flags = ["import", "--from", str(exported), "--store", store.uri, "--result", str(result)]
    assert main(flags) == 0
    said = json.loads(result.read_text())
    assert said["model"] == "models:/made-up/1"
    assert (said["digest"], said["description_digest"], said["existing"]) == (
        pair.better.digest,
        pair.better.description_digest,
        False,
    )
    files = fetch_model(said["model"], store)
    assert (files.graph, files.text) == (original.graph, original.text)
    OnnxModel(files.graph, files.description).self_test()
    [version] = Registry("made-up").versions()
    assert dict(version.tags) == dict(pair.better.tags)
    # Figures from elsewhere are there to be read, not where `evaluate` and `promote` look for evidence.
    assert store.list("evaluations") == []
    key = f"imports/evaluations/{pair.better.digest}/{world.dataset.digest}/0123456789abcdef"
    assert store.get_json(f"{key}/evaluation.json") == {"format": 2}
    # Another ledger's verdict would pass for one of this ledger.
    assert store.list(key) == [f"{key}/evaluation.json", f"{key}/report.html"]
    assert Ledger(store, "made-up").champion() is None
    assert not store.exists(f"datasets/{world.dataset.digest}/manifest.json")

    assert main(flags) == 0
    assert json.loads(result.read_text()) == {**said, "existing": True}
    again = tmp_path / "again"
    export_version(store, said["model"], str(again))
    assert (again / "dataset" / "manifest.json").read_bytes() == (exported / "dataset" / "manifest.json").read_bytes()
    assert (again / "model.onnx").read_bytes() == original.graph


def spoil_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0")


def lose_description(folder: Path) -> None:
    (folder / "model.json").unlink()


def add_stranger(folder: Path) -> None:
    (folder / "code.py").write_text("import os")


def spoil_evaluation(folder: Path) -> None:
    [evaluation] = folder.rglob("evaluation.json")
    evaluation.write_text("{}")


def break_list(folder: Path) -> None:
    (folder / "version.json").write_text("{}")


def change_list_with_the_file(folder: Path) -> None:
    """The list says what the file is, the tag of the registration does not."""
    from eo_data.digests import sha256

    spoil_graph(folder)
    listed = json.loads((folder / "version.json").read_text())
    listed["files"]["model.onnx"] = sha256((folder / "model.onnx").read_bytes())
    (folder / "version.json").write_text(json.dumps(listed))


def link_elsewhere(folder: Path) -> None:
    outside = folder.parent / "model.json"
    (folder / "model.json").rename(outside)
    (folder / "model.json").symlink_to(outside)


def climb_out(folder: Path) -> None:
    listed = json.loads((folder / "version.json").read_text())
    listed["files"]["../outside"] = "0" * 64
    (folder / "version.json").write_text(json.dumps(listed))
    (folder.parent / "outside").write_text("x")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_graph, "not the file that was exported: model.onnx"),
        (lose_description, "missing or strange: model.json"),
        (add_stranger, "missing or strange: code.py"),
        (spoil_evaluation, "not the file that was exported: evaluations/"),
        (break_list, "no exported version"),
        (change_list_with_the_file, f"tag {GRAPH_TAG} is of another file"),
        (link_elsewhere, "missing or strange: model.json"),
        (climb_out, "missing or strange: ../outside"),
    ],
)
def test_a_folder_that_does_not_match_is_refused_and_nothing_is_registered(
    spoil: object, told: str, exported: Path, elsewhere: tuple[Store, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, registry = elsewhere
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    spoil(exported)  # type: ignore[operator]
    with pytest.raises(DataRefused, match=told):
        import_version(store, str(exported))
    assert Registry("made-up").versions() == []
    assert store.list("evaluations") == store.list("imports") == []


def test_nothing_is_kept_of_a_version_that_could_not_be_registered(
    exported: Path, elsewhere: tuple[Store, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = elsewhere
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///a/folder/is/no/registry")
    with pytest.raises(UsageError, match="no tracking store"):
        import_version(store, str(exported))
    assert store.list("evaluations") == store.list("imports") == []


def test_a_version_whose_files_were_changed_is_not_exported(world: World, pair: Pair, tmp_path: Path) -> None:
    [graph] = world.database.parent.glob(f"mlartifacts/**/{pair.better.run}/artifacts/model/model.onnx")
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(DataRefused, match="sha256"):
        export_version(world.store, pair.better.uri, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(world: World, pair: Pair, exported: Path) -> None:
    with pytest.raises(UsageError, match="not empty"):
        export_version(world.store, pair.better.uri, str(exported))
    assert set(pair.better.tags) >= {GRAPH_TAG, DESCRIPTION_TAG}


def test_no_such_version_and_no_such_folder_are_told(world: World, pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="no such model version"):
        export_version(world.store, "models:/made-up/9", str(tmp_path / "out"))
    with pytest.raises(DataRefused, match="no exported version"):
        import_version(world.store, str(tmp_path / "nothing"))
