"""Bad requests: each gets its status and a reason, none ends the server. `nox -s abuse` prints them as a table."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import pytest

TIFF = {"Content-Type": "image/tiff"}
S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
JSON = {"Content-Type": "application/json"}
MEBIBYTE = 2**20
ENDPOINT_TOKEN = "token-of-the-guarded-endpoint"
WRONG = ("another-token-than-it-asks-for", ENDPOINT_TOKEN[:-1], ENDPOINT_TOKEN + "x", "")


ANSWERS = {
    "test_truncated_tiffs": "422",
    "test_bytes_that_were_changed_at_random": "200 where it still reads, else 413 or 422",
    "test_many_directories": "200, or 422",
    "test_pixels_that_no_codec_packed": "422",
    "test_v2_takes_json_only": "415",
    "test_bodies_over_the_limit": "413",
    "test_json_that_unfolds_in_memory": "413",
    "test_an_endless_body_is_cut_while_it_streams": "413",
    "test_slow_bodies_hold_their_places_only_for_a_while": "408, and 429 to others meanwhile",
    "test_a_host_that_is_none": "200, or 422 as the body asks",
    "test_a_query_without_end": "400",
    "test_a_v2_shape_of_seventy_dimensions": "422",
    "test_clients_that_leave_early": "nobody is there to get one",
    "test_heads_that_do_not_come": "408",
    "test_requests_that_are_no_http": "400",
    "test_a_wrong_token": "401",
    "test_a_wrong_token_over_grpc": "UNAUTHENTICATED, before the message is read",
    "test_a_grpc_message_over_the_limit": "RESOURCE_EXHAUSTED",
    "test_bytes_over_grpc_that_are_no_message": "INVALID_ARGUMENT",
    "test_a_grpc_message_that_does_not_come": "DEADLINE_EXCEEDED",
}


@pytest.fixture(scope="module")
def reference(server: Any, tiff_chip: bytes) -> bytes:
    """What a good request is answered before any bad one."""
    with server.client() as client:
        response = client.post("/invocations", content=tiff_chip, headers=TIFF)
    assert response.status_code == 200
    return bytes(response.content)


@pytest.fixture(scope="module")
def guarded(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """A server that asks for a token, and the address of its gRPC door."""
    from eo_serving.backend import free_port

    port = free_port()
    state = tmp_path_factory.mktemp("guarded") / "state"
    server = start_server(state, options=("--grpc-port", str(port)), TERRALOOP_ENDPOINT_TOKEN=ENDPOINT_TOKEN)
    server.await_status("/readyz", 200)
    yield server, f"127.0.0.1:{port}"
    assert server.stop() == 0


@pytest.fixture(autouse=True)
def _lives_on(server: Any, tiff_chip: bytes, reference: bytes, request: Any) -> Iterator[None]:
    """After each of these tests the same processes give the same answer to a good request."""
    asked = request.getfixturevalue("guarded")[0] if "guarded" in request.fixturenames else server
    backend = asked.backend_pid()
    yield
    with asked.client(headers={"Authorization": f"Bearer {ENDPOINT_TOKEN}"}) as client:
        response = client.post("/invocations", content=tiff_chip, headers=TIFF)
    assert (response.status_code, response.content) == (200, reference)
    assert (asked.process.poll(), asked.backend_pid()) == (None, backend)
    case = getattr(request.node, "callspec", None)
    called = f"{case.params['method']} {case.params['path']}" if case and "path" in case.params else ""
    said = (request.function.__doc__ or request.function.__name__.removeprefix("test_").replace("_", " ")).strip(".")
    what = f"{said}: {called or case.id}" if case else said
    answer = case.params.get("status") if case else None
    request.node.user_properties.append(
        ("abuse", [what.splitlines()[0], str(answer or ANSWERS[request.function.__name__])])
    )


def v2(**changes: Any) -> bytes:
    tensor = {"name": "x", "shape": [1, 6, 2, 2], "datatype": "FP32", "data": [1.0] * 24, **changes}
    return json.dumps({"inputs": [tensor]}).encode()


def npy(header: str, data: bytes = b"") -> bytes:
    """An npy file, version 1, of any header."""
    text = header.ljust(118).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def described(dtype: str, shape: str) -> str:
    """The header of an npy file."""
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"


def tiny_tiff(*extra: tuple[int, int, int, int], following: int = 0) -> bytes:
    """One byte of a raster; further tags as (tag, type, count, value), and where the next directory is."""
    tags = {256: (3, 1, 1), 257: (3, 1, 1), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {273: (4, 1, 8 + 2 + 12 * 12 + 4), 278: (3, 1, 1), 279: (4, 1, 1)}
    tags |= {tag: rest for tag, *rest in extra}  # type: ignore[misc]
    entries = b"".join(struct.pack("<HHII", tag, *rest) for tag, rest in sorted(tags.items()))
    return (
        b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + bytes(99)
    )


def many_directories(body: bytes, count: int) -> bytes:
    """The same raster, followed by a chain of directories of one byte each."""
    (first,) = struct.unpack("<I", body[4:8])
    (tags,) = struct.unpack("<H", body[first : first + 2])
    link = first + 2 + 12 * tags
    one = tiny_tiff()[8 : 8 + 2 + 9 * 12]
    size, start = len(one) + 4, len(body) + len(body) % 2
    chain = b"".join(one + struct.pack("<I", start + size * n if n < count else 0) for n in range(1, count + 1))
    return body[:link] + struct.pack("<I", start) + body[link + 4 :].ljust(start - link - 4, b"\0") + chain


def other_codec(body: bytes, codec: int) -> bytes:
    """The same raster, whose pixels are said to be packed by another codec."""
    (first,) = struct.unpack("<I", body[4:8])
    (tags,) = struct.unpack("<H", body[first : first + 2])
    changed = bytearray(body)
    for place in range(first + 2, first + 2 + 12 * tags, 12):
        if struct.unpack("<H", body[place : place + 2])[0] == 259:
            changed[place + 8 : place + 10] = struct.pack("<H", codec)
    return bytes(changed)


NPY = {"Content-Type": "application/x-npy"}
HREFS = {
    "a file of the server": "file:///etc/passwd",
    "a path of the server": "/etc/passwd",
    "GDAL's own file system": "/vsicurl/http://127.0.0.1/x.tif",
    "the cloud's metadata": "http://169.254.169.254/latest/meta-data/",
    "this machine": "http://127.0.0.1:5002/metrics",
    "this machine in IPv6": "http://[::ffff:127.0.0.1]/x.tif",
    "a bucket": "s3://bucket/x.tif",
}
INVOCATIONS = [
    *(
        pytest.param(JSON, json.dumps({"href": href}).encode(), 422, id=f"an address: {name}")
        for name, href in HREFS.items()
    ),
    pytest.param(JSON, b'{"href": 5}', 400, id="an address that is none"),
    pytest.param(JSON, b'{"href": "' + b"x" * 3000 + b'"}', 400, id="an address of 3000 characters"),
    pytest.param({"Content-Type": "application/geo+json"}, b"{}", 422, id="a STAC item that is none"),
    pytest.param({"Content-Type": "application/geo+json"}, b"[" * 5000, 400, id="a STAC item of brackets"),
    pytest.param(TIFF, tiny_tiff(following=8), 422, id="a directory that follows itself"),
    pytest.param(TIFF, tiny_tiff((322, 4, 1, 2**30), (323, 4, 1, 2**30)), 422, id="one pixel in a tile of 2^60"),
    pytest.param(TIFF, tiny_tiff((256, 4, 1, 2**31), (257, 4, 1, 2**31)), 422, id="sides of 2^31"),
    pytest.param(TIFF, tiny_tiff((42112, 2, 2**31, 8)), 422, id="metadata of 2 GiB that are not there"),
    pytest.param(TIFF, tiny_tiff((330, 4, 10**9, 8)), 422, id="a thousand million sub-directories"),
    pytest.param(NPY, npy(described("'|O'", "(1,)"), b"\x80\x04N."), 422, id="a pickle"),
    pytest.param(NPY, npy(described("[('a', '<f4')]", "(1,)")), 422, id="records"),
    pytest.param(NPY, npy(described("'<f4'", "(-1, 6, 2, 2)")), 400, id="negative sides"),
    pytest.param(NPY, npy(described("'<f4'", f"({10**30},)")), 400, id="10^30 values"),
    pytest.param(NPY, npy("__import__('os').system('true')"), 400, id="code in an npy header"),
    pytest.param(TIFF, b"", 400, id="an empty body"),
    pytest.param(TIFF, b"junk", 422, id="junk"),
    pytest.param(TIFF, b"<html><body>Not found</body></html>", 422, id="a web page"),
    pytest.param(TIFF, b"II*\x00\x08\x00\x00\x00", 422, id="eight bytes of a TIFF"),
    pytest.param(TIFF, b"MM\x00*\xff\xff\xff\xff", 422, id="a directory beyond the end"),
    pytest.param(TIFF, b"II+\x00\x08\x00\x00\x00" + b"\xff" * 8, 422, id="a BigTIFF whose directory lies nowhere"),
    pytest.param(TIFF, b"PK\x03\x04" + bytes(200), 422, id="a ZIP file"),
    pytest.param(TIFF, b"/vsicurl/http://127.0.0.1/x.tif", 422, id="a path of GDAL's in place of a raster"),
    pytest.param(TIFF, b'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand/></VRTDataset>', 422, id="a VRT"),
    pytest.param(JSON, b"", 400, id="empty JSON body"),
    pytest.param(JSON, b"{}", 400, id="an empty object"),
    pytest.param(JSON, b"not json", 400, id="no JSON"),
    pytest.param(JSON, b"\xff\xfe", 400, id="a byte order mark"),
    pytest.param(JSON, b'{"inputs": [[1, 2], [3]]}', 400, id="ragged lists"),
    pytest.param(JSON, b'{"inputs": [[[["a"]]]]}', 400, id="text for numbers"),
    pytest.param(JSON, b'{"inputs": [[[[NaN]]]]}', 400, id="NaN"),
    pytest.param(JSON, b'{"inputs": [[[[null]]]]}', 400, id="null"),
    pytest.param(JSON, b'{"inputs": [[[[1e999]]]]}', 422, id="a number beyond all numbers"),
    pytest.param(JSON, b'{"inputs": [1]}', 422, id="one number"),
    pytest.param(JSON, b'{"dataframe_split": {"columns": [], "data": []}}', 400, id="a table of pandas"),
    pytest.param(JSON, b"[" * 200_000, 400, id="200 000 open brackets"),
    pytest.param({"Content-Type": "application/x-npy"}, b"\x93NUMPY\x01\x00\x10\x00junk", 400, id="a false npy header"),
    pytest.param({"Content-Type": "text/plain"}, b"x", 415, id="text"),
    pytest.param({"Content-Type": "text/csv"}, b"a,b\n1,2", 415, id="CSV"),
    pytest.param({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 415, id="a form"),
    pytest.param({"Content-Type": ""}, b"x", 415, id="no content type, said"),
    pytest.param({}, b"x", 415, id="no content type"),
    pytest.param({"Content-Type": "image/tiff; name*=utf-8x"}, b"junk", 422, id="a parameter with a charset"),
    pytest.param({"Content-Type": "image/tiff; name*=a; name*0=b"}, b"junk", 415, id="contradicting parameters"),
    pytest.param({**TIFF, "Accept": "image/tiff; name*=utf-8x"}, b"junk", 422, id="Accept with a charset"),
    pytest.param({**TIFF, "Accept": "image/tiff; name*=a; name*0=b"}, b"junk", 406, id="contradicting Accept"),
    pytest.param({**TIFF, "Accept": "\xff\xfe"}, b"junk", 400, id="Accept of bytes beyond ASCII"),
    pytest.param({**TIFF, "Content-Encoding": "gzip"}, b"\x1f\x8b", 415, id="gzip"),
    pytest.param({**JSON, "Content-Encoding": "br"}, b"{}", 415, id="brotli"),
]


@pytest.mark.parametrize(("headers", "body", "status"), INVOCATIONS)
def test_junk_to_invocations(server: Any, is_problem: Any, headers: dict[str, str], body: bytes, status: int) -> None:
    """Sent to /invocations."""
    with server.client() as client:
        is_problem(
            client.post(
                "/invocations", content=body, headers={key: value.encode("latin-1") for key, value in headers.items()}
            ),
            status,
        )


@pytest.mark.parametrize(
    ("names", "count", "status"), [((), 5, 422), (("a", "b"), 2, 422), (("B02", "B02"), 2, 422), ((), 300, 422)]
)
def test_wrong_bands(server: Any, is_problem: Any, tiff: Any, names: tuple[str, ...], count: int, status: int) -> None:
    with server.client() as client:
        body = tiff(np.ones((count, 4, 4), np.uint8), names=names)
        problem = is_problem(client.post("/invocations", content=body, headers=TIFF), status)
    assert "band" in problem["detail"]


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_tiffs(server: Any, is_problem: Any, tiff_chip: bytes, share: float) -> None:
    with server.client() as client:
        is_problem(client.post("/invocations", content=tiff_chip[: int(len(tiff_chip) * share)], headers=TIFF), 422)


@pytest.mark.parametrize("count", [1000, 20_000])
def test_many_directories(server: Any, is_problem: Any, tiff: Any, reference: bytes, count: int) -> None:
    """A raster in front of a chain of directories."""
    body = many_directories(tiff(np.full((13, 8, 8), 700, np.uint16), names=S2), count)
    with server.client() as client:
        response = client.post("/invocations", content=body, headers=TIFF)
    if response.status_code != 200:
        is_problem(response, 422)


@pytest.mark.parametrize(
    "codec", [2, 3, 5, 6, 7, 8, 34712, 34887, 34925, 50000, 50001, 50002, 65535], ids="codec {}".format
)
def test_pixels_that_no_codec_packed(server: Any, is_problem: Any, tiff: Any, codec: int) -> None:
    """Right bands, and noise for pixels; PackBits is left out, which any bytes are."""
    pixels = np.random.default_rng(codec).integers(1, 6000, (13, 40, 40)).astype(np.uint16)
    with server.client() as client:
        response = client.post("/invocations", content=other_codec(tiff(pixels, names=S2), codec), headers=TIFF)
    is_problem(response, 422)


def test_bytes_that_were_changed_at_random(server: Any, is_problem: Any, tiff: Any) -> None:
    """Whatever a damaged file holds, it is answered: with a mask where it still reads, else with a reason."""
    whole = tiff(np.full((13, 40, 40), 700, np.uint16), compress="deflate")
    rng = np.random.default_rng(0)
    seen = set()
    with server.client() as client:
        for _ in range(60):
            body = bytearray(whole)
            for at in rng.integers(0, len(body), 4):
                body[at] = rng.integers(256)
            response = client.post("/invocations", content=bytes(body), headers=TIFF)
            seen.add(response.status_code)
            if response.status_code != 200:
                assert response.status_code in {413, 422}
                is_problem(response, response.status_code)
    assert {200, 422} <= seen


@pytest.mark.parametrize(
    ("shape", "creation", "status"),
    [
        ((13, 1, 60_000), {}, 413),
        ((13, 60_000, 1), {}, 413),
        ((13, 30_000, 30_000), {"tiled": True, "blockxsize": 512, "blockysize": 512}, 413),
        ((13, 1100, 1000), {}, 413),
        ((13, 1000, 1000), {"blockysize": 1000, "interleave": "pixel", "compress": "deflate"}, 413),
    ],
    ids=["wide", "high", "huge", "over-pixels", "one-strip"],
)
def test_dimensions_over_the_limits(
    server: Any, is_problem: Any, tmp_path: Path, shape: tuple[int, int, int], creation: Any, status: int
) -> None:
    """Sparse files: small bodies that unpack to far more."""
    import rasterio

    path = tmp_path / "bomb.tif"
    count, height, width = shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype="uint8", sparse_ok=True,
        crs="EPSG:32630", transform=rasterio.Affine(10, 0, 0, 0, -10, 0), **creation,
    ):  # fmt: skip
        pass
    with server.client() as client:
        problem = is_problem(client.post("/invocations", content=path.read_bytes(), headers=TIFF), status)
    assert "pixels" in problem["detail"] or "longer" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"", 422, id="an empty body"),
        pytest.param(b"junk", 422, id="junk"),
        pytest.param(b"\xff\xfe", 422, id="a byte order mark"),
        pytest.param(b"{}", 422, id="an empty object"),
        pytest.param(b'{"inputs": []}', 400, id="no tensor"),
        pytest.param(b'{"inputs": [{}]}', 422, id="an empty tensor"),
        pytest.param(b"[" * 100_000, 422, id="100 000 open brackets"),
        pytest.param(v2(datatype="BYTES", data=["a"] * 24), 422, id="values of text"),
        pytest.param(v2(datatype="BOOL", data=[True] * 24), 422, id="truth values"),
        pytest.param(v2(datatype="FP128"), 422, id="a type that no sensor has"),
        pytest.param(v2(shape=[1, 6, 2, 3]), 422, id="a shape that does not fit"),
        pytest.param(v2(shape=[1, 5, 2, 2], data=[1.0] * 20), 422, id="bands too few"),
        pytest.param(v2(shape=[6, 2, 2]), 422, id="three dimensions"),
        pytest.param(v2(shape=[]), 422, id="no dimension"),
        pytest.param(v2(shape=[-1, -6, 2, 2]), 422, id="negative sides"),
        pytest.param(v2(shape=[1, 6, 10**12, 10**12]), 422, id="sides of 10^12"),
        pytest.param(v2(data=["1"] * 24), 400, id="numbers as text"),
        pytest.param(v2(data=[None] * 24), 400, id="null"),
        pytest.param(v2(data=[[1.0], [1.0, 2.0]]), 400, id="ragged lists"),
        pytest.param(v2(data={"a": 1}), 400, id="an object for numbers"),
        pytest.param(v2(data=[1e300] * 24), 422, id="numbers beyond all sensors"),
        pytest.param(v2(datatype="UINT8", data=[300] * 24), 422, id="300 in a byte"),
        pytest.param(v2(datatype="INT16", data=[1.5] * 24), 422, id="half a number in whole ones"),
        pytest.param(v2().replace(b"1.0", b"NaN", 1), 422, id="NaN"),
        pytest.param(
            v2().replace(b'"inputs"', b'"outputs": [{"name": "secrets"}], "inputs"'), 400, id="no such output"
        ),
    ],
)
def test_junk_to_v2(server: Any, is_problem: Any, body: bytes, status: int) -> None:
    """Sent to V2."""
    with server.client() as client:
        is_problem(client.post("/v2/models/water/infer", content=body, headers=JSON), status)


def test_v2_takes_json_only(server: Any, is_problem: Any) -> None:
    with server.client() as client:
        for kind in ("application/octet-stream", "text/plain", ""):
            is_problem(client.post("/v2/models/water/infer", content=v2(), headers={"Content-Type": kind}), 415)


def test_bodies_over_the_limit(server: Any, is_problem: Any) -> None:
    with server.client() as client:
        for headers, size in ((TIFF, 4 * MEBIBYTE + 1), (JSON, MEBIBYTE + 1)):
            is_problem(client.post("/invocations", content=bytes(size), headers=headers), 413)
        is_problem(client.post("/v2/models/water/infer", content=bytes(MEBIBYTE + 1), headers=JSON), 413)


def test_json_that_unfolds_in_memory(server: Any, is_problem: Any) -> None:
    with server.client() as client:
        for body in (b'{"inputs": [' + b"[]," * 200_000 + b"[]]}", b"{" * 200_001):
            for path in ("/invocations", "/v2/models/water/infer"):
                problem = is_problem(client.post(path, content=body, headers=JSON), 413)
                assert "lists" in problem["detail"]


def test_an_endless_body_is_cut_while_it_streams(server: Any) -> None:
    """100 MiB without a length: the answer comes, and the server never held more than the limit."""
    before = peak_memory(server.process.pid)
    chunk = bytes(MEBIBYTE)
    target = urlsplit(server.url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
    connection.request("POST", "/invocations", body=(chunk for _ in range(100)), headers=TIFF, encode_chunked=False)
    response = connection.getresponse()
    problem = json.loads(response.read())
    connection.close()
    assert (response.status, problem["status"]) == (413, 413)
    if before is not None:
        assert (peak_memory(server.process.pid) or 0) - before < 40 * MEBIBYTE


def peak_memory(pid: int) -> int | None:
    """Greatest resident memory of a process so far, bytes; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM"))


def test_slow_bodies_hold_their_places_only_for_a_while(server: Any, is_problem: Any, tiff_chip: bytes) -> None:
    target = urlsplit(server.url)
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/tiff\r\nContent-Length: 999\r\n\r\nII"
    slow = [socket.create_connection((target.hostname or "", target.port or 0), timeout=60) for _ in range(4)]
    try:
        for connection in slow:
            connection.sendall(head)
        with server.client() as client:
            end = time.monotonic() + 30
            while (turned_away := client.post("/invocations", content=tiff_chip, headers=TIFF)).status_code == 200:
                assert time.monotonic() < end
            is_problem(turned_away, 429)
            assert turned_away.headers["Retry-After"]
            assert client.get("/healthz").status_code == 200
        statuses = [connection.recv(65536).split(b" ")[1] for connection in slow]
        assert statuses == [b"408"] * 4
    finally:
        for connection in slow:
            connection.close()


def test_clients_that_leave_early(server: Any, tiff_chip: bytes) -> None:
    target = urlsplit(server.url)
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/tiff\r\nContent-Length: {len(tiff_chip)}"
    for body in (tiff_chip[:500], tiff_chip):
        with socket.create_connection((target.hostname or "", target.port or 0), timeout=60) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/repository/index", 404),
        ("POST", "/v2/repository/models/water/load", 404),
        ("POST", "/v2/repository/models/water/unload", 404),
        ("POST", "/v2/models/../repository/models/water/unload", 404),
        ("POST", "/v2/models/water/..%2f..%2frepository%2fmodels%2fwater%2funload", 404),
        ("POST", "//v2/repository/models/water/unload", 404),
        ("GET", "/v2", 404),
        ("GET", "/v2/docs", 404),
        ("GET", "/v2/models/water/docs", 404),
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("POST", "/v2/models/water/versions/2/infer", 404),
        ("POST", "/v2/models/water/generate", 404),
        ("GET", "/docs", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/invocations/", 404),
        ("GET", "/invocations", 405),
        ("PUT", "/invocations", 405),
        ("DELETE", "/v2/models/water", 405),
        ("GET", "/v2/models/water/infer", 405),
        ("POST", "/", 405),
        ("GET", "/-/reload", 405),
        ("TRACE", "/healthz", 405),
    ],
)
def test_nothing_else_can_be_reached(server: Any, is_problem: Any, method: str, path: str, status: int) -> None:
    """A call past the route list."""
    target = urlsplit(server.url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
    connection.request(method, path)  # httpx would tidy the path
    raw = connection.getresponse()
    response = httpx.Response(raw.status, headers=dict(raw.getheaders()), content=raw.read())
    connection.close()
    is_problem(response, status)


def test_a_host_that_is_none(server: Any) -> None:
    for path in ("/", "/healthz"):
        with server.client() as client:
            answer = client.get(path, headers={"Host": "a]b[<b>"})
        assert answer.status_code == 200
        assert "<b>" not in answer.text
    with server.client() as client:
        answer = client.post("/invocations", content=b"junk", headers={"Content-Type": "image/tiff", "Host": "a]b["})
    assert answer.status_code == 422


def test_a_query_without_end(server: Any, is_problem: Any, tiff_chip: bytes) -> None:
    with server.client() as client:
        answer = client.post(
            "/invocations?scale=" + "1" * 20_000, content=tiff_chip, headers={"Content-Type": "image/tiff"}
        )
    is_problem(answer, 400)


def test_a_v2_shape_of_seventy_dimensions(server: Any, is_problem: Any) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1] * 70, "data": [1.0]}
    with server.client() as client:
        is_problem(client.post("/v2/models/water/infer", json={"inputs": [tensor]}), 422)


def raw_answer(server: Any, sent: bytes) -> httpx.Response:
    """What bytes are answered until the server ends their connection."""
    target = urlsplit(server.url)
    with socket.create_connection((target.hostname or "", target.port or 0), timeout=60) as connection:
        connection.sendall(sent)
        raw = http.client.HTTPResponse(connection)
        raw.begin()
        response = httpx.Response(raw.status, headers=dict(raw.getheaders()), content=raw.read())
        assert connection.recv(1) == b""
    return response


def test_heads_that_do_not_come(server: Any, is_problem: Any) -> None:
    for sent in (b"", b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Ty"):
        is_problem(raw_answer(server, sent), 408)


def test_requests_that_are_no_http(server: Any, is_problem: Any) -> None:
    for sent in (b"GET /\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"):
        is_problem(raw_answer(server, sent), 400)


def test_a_wrong_token(guarded: Any, is_problem: Any, tiff_chip: bytes) -> None:
    with guarded[0].client() as client:
        for token in (*(f"Bearer {token}".strip() for token in WRONG), ENDPOINT_TOKEN, f"Basic {ENDPOINT_TOKEN}", ""):
            for path, body in (("/invocations", tiff_chip), ("/v2/models/water/infer", v2())):
                answer = client.post(path, content=body, headers={"Authorization": token, **JSON})
                assert ENDPOINT_TOKEN not in is_problem(answer, 401)["detail"]


def over_grpc(address: str, message: Iterator[bytes], token: str) -> tuple[str, str]:
    """Code and words of an inference call that is refused."""
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(message, metadata=(("authorization", f"Bearer {token}"),), timeout=60)
    return caught.value.code().name, caught.value.details()


def test_a_wrong_token_over_grpc(guarded: Any) -> None:
    for token in WRONG:
        code, said = over_grpc(guarded[1], iter([b"\xff" * 1000]), token)
        assert code == "UNAUTHENTICATED"
        assert ENDPOINT_TOKEN not in said


def test_a_grpc_message_over_the_limit(guarded: Any) -> None:
    for size in (4 * MEBIBYTE + 1, 40 * MEBIBYTE):
        assert over_grpc(guarded[1], iter([bytes(size)]), ENDPOINT_TOKEN)[0] == "RESOURCE_EXHAUSTED"


def test_bytes_over_grpc_that_are_no_message(guarded: Any) -> None:
    for content in (b"\xff\xff\xff", b"junk", bytes(1000)):
        code, said = over_grpc(guarded[1], iter([content]), ENDPOINT_TOKEN)
        assert code == "INVALID_ARGUMENT"
        assert "Error" not in said


def test_a_grpc_message_that_does_not_come(guarded: Any) -> None:
    ended = threading.Event()

    def never() -> Iterator[bytes]:
        ended.wait(60)
        yield b""

    code, _ = over_grpc(guarded[1], never(), ENDPOINT_TOKEN)
    ended.set()
    assert code == "DEADLINE_EXCEEDED"
