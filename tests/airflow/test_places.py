"""What lies at a place, in one word: it changes with every name, size, time and content, and with nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.places import fingerprint


def test_a_folder(tmp_path: Path) -> None:
    assert fingerprint(str(tmp_path / "absent")) == ""
    assert fingerprint(str(tmp_path)) == ""
    (tmp_path / "images with space").mkdir()
    file = tmp_path / "images with space" / "a.tif"
    file.write_bytes(b"1")
    first = fingerprint(str(tmp_path))
    assert first
    assert fingerprint(tmp_path.as_uri()) == first
    assert fingerprint(str(tmp_path)) == first
    states = {first}
    (tmp_path / "b.tif").write_bytes(b"")
    states.add(fingerprint(str(tmp_path)))
    file.write_bytes(b"12")
    states.add(fingerprint(str(tmp_path)))
    os.utime(file, (1, 1))
    states.add(fingerprint(str(tmp_path)))
    file.rename(file.with_name("c.tif"))
    states.add(fingerprint(str(tmp_path)))
    assert len(states) == 5


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
                        "MLFLOW_S3_ENDPOINT_URL": f"http://{host}:{port}"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="scenes")
    yield client
    server.stop()


def test_a_prefix(bucket: Any) -> None:
    assert fingerprint("s3://scenes/in/") == ""
    bucket.put_object(Bucket="scenes", Key="in/a.tif", Body=b"1")
    first = fingerprint("s3://scenes/in/")
    bucket.put_object(Bucket="scenes", Key="out/a.tif", Body=b"1")
    assert fingerprint("s3://scenes/in/") == first != ""
    bucket.put_object(Bucket="scenes", Key="in/a.tif", Body=b"2")
    assert fingerprint("s3://scenes/in/") not in {first, ""}


def test_what_cannot_be_looked_at(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="NoSuchBucket"):
        fingerprint("s3://nowhere/in/")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(OSError, match="Could not connect"):
        fingerprint("s3://scenes/in/")
