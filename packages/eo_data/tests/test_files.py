"""A version's files out of a real MLflow registry: fetched, checked, refused by name."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eo_data.digests import sha256
from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_data.model.files import (
    DESCRIPTION_FILE,
    DESCRIPTION_TAG,
    GRAPH_FILE,
    GRAPH_TAG,
    fetch_model,
    parse_model_uri,
)
from eo_data.model.ledger import Ledger
from eo_data.model.session import OnnxModel
from eo_data.store import Store

from .tiny_model import describe, tiny_graph

# MLflow 3.17 uses a loader strategy that SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

GRAPH, TEXT = tiny_graph(), describe().to_bytes()


class Registry:
    """An MLflow registry on SQLite in a folder."""

    def __init__(self, folder: Path) -> None:
        import mlflow

        self._folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self._client = mlflow.MlflowClient(self.uri)
        self._client.create_registered_model("water")

    def add(self, graph: bytes | None = GRAPH, text: bytes | None = TEXT, tags: Mapping[str, str] | None = None) -> int:
        """Register a version; its number. Tags that are not given are right; an empty one is left out."""
        files = {GRAPH_FILE: graph, DESCRIPTION_FILE: text}
        folder = self._folder / "artifacts" / f"v{len(list(self._folder.glob('artifacts/*')))}"
        folder.mkdir(parents=True)
        for name, data in files.items():
            if data is not None:
                (folder / name).write_bytes(data)
        right = {GRAPH_TAG: sha256(GRAPH), DESCRIPTION_TAG: sha256(TEXT)}
        said = {key: value for key, value in {**right, **(tags or {})}.items() if value}
        version = self._client.create_model_version("water", str(folder), tags=said)
        self.folder = folder
        return int(version.version)


@pytest.fixture(scope="module")
def shared_registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tmp_path_factory.mktemp("a registry"))  # MLflow takes seconds to make its tables


@pytest.fixture
def registry(shared_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shared_registry.uri)
    return shared_registry


def test_a_registered_version_comes_whole_and_runs(registry: Registry) -> None:
    number = registry.add()
    files = fetch_model(f"models:/water/{number}")
    assert (files.name, files.version, files.graph, files.text) == ("water", number, GRAPH, TEXT)
    assert (files.digest, files.description_digest) == (sha256(GRAPH), sha256(TEXT))
    assert (files.uri, files.label) == (f"models:/water/{number}", f"water/{number}")
    OnnxModel(files.graph, files.description).self_test()


def test_the_ledger_says_who_is_champion(registry: Registry, store: Store) -> None:
    first, second = registry.add(), registry.add()
    ledger = Ledger(store, "water")
    for after, version in enumerate([first, second]):
        ledger.append(
            after=after,
            version=version,
            model_digest=sha256(GRAPH),
            description_digest=sha256(TEXT),
            reason="gate",
        )
    assert fetch_model("models:/water@champion", store).version == second
    assert fetch_model("models:/water@previous", store).version == first
    ledger.append(after=2, version=first, model_digest="0" * 64, description_digest=sha256(TEXT), reason="gate")
    with pytest.raises(DataRefused, match="do not belong together"):
        fetch_model("models:/water@champion", store)


@pytest.mark.parametrize("file", [GRAPH_FILE, DESCRIPTION_FILE])
def test_a_file_that_was_changed_is_refused(registry: Registry, file: str) -> None:
    number = registry.add()
    path = registry.folder / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataRefused, match=rf"^models:/water/{number}: the file's sha256 .* is not the one in tag"):
        fetch_model(f"models:/water/{number}")


@pytest.mark.parametrize(
    "tags",
    [{GRAPH_TAG: "0" * 64}, {DESCRIPTION_TAG: "0" * 64}, {GRAPH_TAG: ""}, {GRAPH_TAG: sha256(TEXT)}],
)
def test_wrong_and_missing_tags_are_refused(registry: Registry, tags: dict[str, str]) -> None:
    number = registry.add(tags=tags)
    with pytest.raises(DataRefused, match=f"is not the one in tag {next(iter(tags))}"):
        fetch_model(f"models:/water/{number}")


@pytest.mark.parametrize("missing", [{"graph": None}, {"text": None}])
def test_a_missing_file_is_refused(registry: Registry, missing: dict[str, Any]) -> None:
    number = registry.add(**missing)
    with pytest.raises(DataRefused, match=rf"^models:/water/{number}: a file of the version is missing"):
        fetch_model(f"models:/water/{number}")
    shutil.rmtree(registry.folder)
    with pytest.raises(DataRefused, match="a file of the version is missing"):
        fetch_model(f"models:/water/{number}")


def test_a_description_of_another_release_is_refused(registry: Registry) -> None:
    text = TEXT.replace(b'"schema_version":1', b'"schema_version":2')
    number = registry.add(text=text, tags={DESCRIPTION_TAG: sha256(text)})
    with pytest.raises(DataRefused, match="schema_version"):
        fetch_model(f"models:/water/{number}")


@pytest.mark.parametrize("uri", ["models:/water/999", "models:/fire/1"])
def test_a_version_that_is_not_there_is_refused(registry: Registry, uri: str) -> None:
    with pytest.raises(DataRefused, match=f"^{uri}: there is no such model version"):
        fetch_model(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "", "water", "water/3", "models:/water", "models:/water/", "models:/water/latest", "models:/water/-1",
        "models:/water/1.5", "models:/water/99999999999999999999", "models:/wa ter/1", "models:/a/b/1", "runs:/1/model",
        "models:/water/1\n", "models:/water@candidate", "models:/../1",
    ],
)  # fmt: skip
def test_what_names_no_version_is_a_usage_error(store: Store, uri: str) -> None:
    with pytest.raises(UsageError):
        parse_model_uri(uri, store)


def test_an_alias_needs_a_store() -> None:
    assert parse_model_uri("models:/water-hls/12") == ("water-hls", 12)
    with pytest.raises(UsageError, match="'champion' is not kept here"):
        parse_model_uri("models:/water@champion")


def test_a_uri_that_is_no_registry_is_refused_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.db").write_text("<html>not a database</html>" * 100)
    before = sorted(path.name for path in tmp_path.iterdir())
    for uri in ("", "mlruns", "ftp://127.0.0.1", f"sqlite:///{tmp_path}/none.db", f"sqlite:///{tmp_path}/page.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UsageError) as refusal:
            fetch_model("models:/water/1")
        assert uri in str(refusal.value)
        assert refusal.value.fix
    assert sorted(path.name for path in tmp_path.iterdir()) == before


class _Failing(BaseHTTPRequestHandler):
    calls = 0
    status = 503

    def do_GET(self) -> None:
        type(self).calls += 1
        self.send_response(self.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def failing_server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Failing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def _default_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MAX_RETRIES", "BACKOFF_FACTOR", "TIMEOUT"):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{variable}", "")  # restored when the test ends
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{variable}")


@pytest.mark.usefixtures("_default_patience")
def test_a_failing_server_is_a_temporary_failure_after_a_few_attempts(
    failing_server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{failing_server.server_port}")
    _Failing.calls = 0
    with pytest.raises(TemporaryFailure, match=r"^http://127\.0\.0\.1:\d+: the registry did not answer"):
        fetch_model("models:/water/1")
    assert 1 <= _Failing.calls <= 3  # MLflow's own patience is 8 attempts and four minutes


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_the_caller_is_no_temporary_failure(
    failing_server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{failing_server.server_port}")
    monkeypatch.setattr(_Failing, "status", status)
    with pytest.raises(UsageError, match="MLflow refused the call"):
        fetch_model("models:/water/1")


@pytest.mark.usefixtures("_default_patience")
def test_an_unreachable_server_is_a_temporary_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound and not listening: refused at once
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(TemporaryFailure, match="the registry did not answer") as failure:
            fetch_model("models:/water/1")
    assert "MLFLOW_TRACKING_URI" in failure.value.fix
