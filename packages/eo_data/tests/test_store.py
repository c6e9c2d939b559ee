"""The store: put-if-absent, atomic, addressed by keys and URIs (design 4.2)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import BaseModel

from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_data.store import Store, as_uri, local_path


def test_of_eight_concurrent_writers_exactly_one_wins(store: Store) -> None:
    barrier = threading.Barrier(8)

    def write(number: int) -> list[bool]:
        own = Store(store.uri)
        wins = []
        for k in range(25):
            barrier.wait()
            wins.append(own.put_new(f"races/{k}.bin", bytes([number]) * 100_000))
        return wins

    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(write, range(8)))
    for k in range(25):
        winners = [number for number in range(8) if wins[number][k]]
        assert len(winners) == 1
        assert store.get(f"races/{k}.bin") == bytes(winners) * 100_000
    assert len(store.list("races")) == 25


def test_writers_in_other_processes_lose_too(store: Store) -> None:
    call = "import sys, time; from eo_data.store import Store; s = Store(sys.argv[1]); print(flush=True); input()\n"
    call += "print(sum(s.put_new(f'k/{n}', sys.argv[2].encode() * 50_000) for n in range(20)))"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", call, store.uri, str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(3)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    wins = [int(writer.communicate("\n")[0]) for writer in writers]
    assert sum(wins) == 20
    assert {len(set(store.get(key))) for key in store.list("k")} == {1}


def test_the_second_writer_changes_nothing(store: Store) -> None:
    assert store.put_new("a/b.json", b"first") is True
    assert store.put_new("a/b.json", b"second") is False
    assert store.get("a/b.json") == b"first"


def test_a_killed_writer_leaves_nothing_that_can_be_seen(store: Store) -> None:
    call = "import sys; from eo_data.store import Store; Store(sys.argv[1]).put_new('big.bin', bytes(300_000_000))"
    process = subprocess.Popen([sys.executable, "-c", call, store.uri])
    root = local_path(store.uri)
    while not any(root.iterdir()) and process.poll() is None:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    assert store.exists("big.bin") is False
    assert store.list("") == []
    assert store.put_new("big.bin", b"whole") is True
    assert store.get("big.bin") == b"whole"


def test_files_are_stored_byte_by_byte(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source.tif"
    source.write_bytes(os.urandom(3_000_000))
    assert store.put_new("scenes/image.tif", source) is True
    assert Path(store.raster_path("scenes/image.tif")).read_bytes() == source.read_bytes()
    with pytest.raises(DataRefused, match="no such file"):
        store.put_new("other.tif", tmp_path / "gone.tif")


def test_a_large_file_is_never_in_memory_as_a_whole(store: Store, tmp_path: Path) -> None:
    (tmp_path / "big.tif").write_bytes(os.urandom(2**20) * 100)
    call = (
        "import resource, sys; from pathlib import Path; from eo_data.store import Store; s = Store(sys.argv[1])\n"
        "s.put_new('small', b'1'); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert s.put_new('big.tif', Path(sys.argv[2]))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    run = [sys.executable, "-c", call, store.uri, str(tmp_path / "big.tif")]
    grown = int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert grown < 20  # MiB
    assert store.put_new("big.tif", tmp_path / "big.tif") is False
    assert Path(store.raster_path("big.tif")).stat().st_size == 100 * 2**20


def test_a_writer_killed_in_a_file_leaves_nothing_that_can_be_seen(store: Store, tmp_path: Path) -> None:
    (tmp_path / "big.tif").touch()
    os.truncate(tmp_path / "big.tif", 2 * 2**30)  # sparse: it takes no room, but takes long to copy
    call = "import sys; from pathlib import Path; from eo_data.store import Store; "
    call += "Store(sys.argv[1]).put_new('scenes/image.tif', Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", call, store.uri, str(tmp_path / "big.tif")])
    root = local_path(store.uri)
    while not any(root.rglob("image*")) and process.poll() is None:
        time.sleep(0.0001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    (unfinished,) = root.rglob("image*")
    assert store.exists("scenes/image.tif") is False
    assert store.list("") == []
    unfinished.unlink()
    (tmp_path / "small.tif").write_bytes(b"whole")
    assert store.put_new("scenes/image.tif", tmp_path / "small.tif") is True
    assert store.get("scenes/image.tif") == b"whole"


def test_of_eight_writers_of_a_file_exactly_one_wins(store: Store, tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * 3_000_000)
    barrier = threading.Barrier(8)

    def write(number: int) -> bool:
        barrier.wait()
        return store.put_new("image.tif", tmp_path / f"{number}.bin")

    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(write, range(8)))
    assert sum(wins) == 1
    assert store.get("image.tif") == bytes([wins.index(True)]) * 3_000_000
    assert [path.name for path in local_path(store.uri).iterdir()] == ["image.tif"]


@pytest.mark.parametrize("name", ["plain", "with blanks", "ünïcödé 水", "50% #1 ?x=1", "a+b&c"])
def test_any_folder_can_be_a_store(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    for root in (str(folder), folder.as_uri(), folder.as_uri() + "/"):
        store = Store(root)
        assert store == Store(str(folder))
        store.put_new("a b/ü.json", b"1")
        uri = store.resolve("a b/ü.json")
        assert store.key(uri) == "a b/ü.json"
        assert store.get(store.key(uri)) == b"1"
        assert store.list("a b") == ["a b/ü.json"]
        assert (folder / "a b" / "ü.json").read_bytes() == b"1"
        assert Path(store.raster_path("a b/ü.json")) == folder / "a b" / "ü.json"


def test_a_folder_whose_name_is_no_utf8_can_be_a_store(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    assert local_path(as_uri(str(folder))) == folder


def test_a_plain_path_is_relative_to_where_the_command_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("folder/store")
    assert store.uri == (tmp_path / "folder" / "store").as_uri()
    store.put_new("batches/1.json", b"{}")
    for named in ("folder/store/batches/1.json", "./folder/store/batches/1.json", "batches/1.json"):
        assert store.key(named) == "batches/1.json"
    monkeypatch.chdir(tmp_path / "folder" / "store" / "batches")
    assert store.key("batches/1.json") == "batches/1.json"
    assert store.key("../batches/1.json") == "batches/1.json"


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "s3://bucket/batches/1.json",
        "{root}-beside/batches/1.json",
        "{root}",
        "{root}/../batches/1.json",
        "{root}/batches/../../x",
        "batches/../../x",
        "batches//x",
        "",
    ],
)
def test_what_lies_outside_the_store_is_refused(store: Store, uri: str) -> None:
    with pytest.raises(UsageError, match="outside the store"):
        store.key(uri.format(root=store.uri))


@pytest.mark.parametrize("uri", ["gs://bucket", "http://127.0.0.1/store", "s3://", "s3:///prefix", "file://data/store"])
def test_what_is_no_store_is_refused(uri: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Store(uri)
    assert uri.rstrip("/") in str(refusal.value)
    assert refusal.value.fix


def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="cannot be made"):
        Store(str(tmp_path / "file" / "store"))


def test_only_local_files_are_paths() -> None:
    with pytest.raises(UsageError, match="cannot be read here"):
        local_path("s3://bucket/folder")


def test_what_is_not_there_is_said_so(store: Store) -> None:
    assert store.exists("batches/1.json") is False
    assert store.list("batches") == []
    with pytest.raises(DataRefused, match=r"batches/1\.json: there is no such object"):
        store.get("batches/1.json")
    store.put_new("batches/1.json", b"{}")
    assert store.exists("batches/1.json/manifest.json") is False
    for below in ("batches", "batches/1.json/manifest.json"):
        with pytest.raises(DataRefused, match="there is no such object"):
            store.get(below)


def test_listing_takes_whole_segments(store: Store) -> None:
    for key in ("labels/a/1", "labels/ab/2", "labels/a/b/3", "other/4"):
        store.put_new(key, b"")
    assert store.list("labels/a") == store.list("labels/a/") == ["labels/a/1", "labels/a/b/3"]
    assert store.list("labels/x") == []
    assert len(store.list("")) == 4


class Thing(BaseModel):
    number: int


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[1]", b"null", b'{"number": "x"}', b"{}"])
def test_a_spoilt_record_is_refused_by_its_uri(store: Store, data: bytes) -> None:
    store.put_new("thing.json", data)
    with pytest.raises(DataRefused, match=r"store/thing\.json"):
        store.get_record("thing.json", Thing)


def test_records_are_stored_in_canonical_form(store: Store) -> None:
    store.put_json_new("thing.json", {"number": 1, "ü": [1, None]} | {"a": 2})
    assert store.get("thing.json") == '{"a":2,"number":1,"ü":[1,null]}'.encode()
    assert store.get_record("thing.json", Thing) == Thing(number=1)


class _Closed(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("content-length", "0")
        self.end_headers()

    do_PUT = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def closed_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket on a server that answers 403 to everything."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Closed)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for variable, value in {
        "AWS_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    yield "s3://bucket/prefix"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_bucket_that_refuses_the_key_is_the_callers_fault(closed_bucket: str) -> None:
    store = Store(closed_bucket)
    with pytest.raises(UsageError, match="s3://bucket/prefix/a: the store refuses access"):
        store.get("a")
    with pytest.raises(UsageError, match="refuses access"):
        store.put_new("a", b"1")


def test_a_bucket_out_of_reach_is_a_temporary_failure(closed_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TemporaryFailure, match="s3://bucket/prefix/a: the store did not answer"):
        Store(closed_bucket).exists("a")
