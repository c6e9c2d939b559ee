"""Reading for a caller: what an address or a STAC item names becomes one GeoTIFF, as if the caller had sent it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_serving.guarded_proxy import GuardedProxy
from eo_serving.media import ITEM_HEADER, JSON, TIFF, MediaType
from eo_serving.problem import OutOfTime, TooLarge
from eo_serving.remote_bodies import RemoteRaster, names_raster, parse_remote, require_reachable
from eo_serving.remote_rules import Origin, origin_of

if TYPE_CHECKING:
    from eo_data.usecase import DataSection
    from eo_serving.configuration import ServeSection

log = logging.getLogger(__name__)

_PASSED_ON: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PROJ_LIB",
    "PROJ_DATA", "GDAL_DATA", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE",
)  # fmt: skip
_STORAGE: Final = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL",
)  # fmt: skip
"""What the fetcher gets of the environment; these only where an s3 prefix is listed."""

_RADIOMETRIC: Final = ("constellation", "platform")
_REFUSALS: Final = {kind.__name__: kind for kind in (DataRefused, UsageError, TooLarge)}


@dataclass(frozen=True)
class Fetched:
    """A raster that was brought here.

    Attributes:
        content: The bytes of a GeoTIFF.
        item: What its STAC item says of its values: `asset` and `properties`; None without an item.
    """

    content: bytes
    item: dict[str, Any] | None


@dataclass(frozen=True)
class AsSent:
    """A request that names a raster, as it would be had its caller sent the raster.

    Attributes:
        headers: Those of the request, and what the item says of the values.
        body: The GeoTIFF.
        query: What is left of the query.
        taken: When the item says that the scene was taken; None without an item.
    """

    headers: dict[str, str]
    body: bytes
    query: str
    taken: str | None = None


async def as_sent(
    headers: dict[str, str], body: bytes, query: str, data: DataSection, serve: ServeSection, left: float
) -> AsSent | None:
    """Fetch what a request names; None where it names nothing, and holds its raster or tensor itself.

    Args:
        headers: `content-type` and `accept` of the request.
        body: Its body.
        query: Its query.
        data: The use case's data section.
        serve: Its limits, and the addresses that are listed.
        left: Seconds that are left for the answer.

    Raises:
        TerraloopError: As `parse_remote` and `fetch` say.
    """
    kind = MediaType.parse(headers.get("content-type", ""))
    if not names_raster(kind, body):
        return None
    said = dict(parse_qsl(query, keep_blank_values=True))
    remote = parse_remote(kind, body, said.pop("bbox", None))
    fetched = await fetch(remote, data, serve, min(serve.remote.seconds, left), keep="bands" in said)
    accept = headers.get("accept", "")
    if kind.name == JSON and accept.strip() in {"", "*/*"}:
        accept = JSON  # who sends JSON gets JSON, unless another type is asked for
    changed = {**headers, "content-type": TIFF, "accept": accept}
    if fetched.item is not None:
        changed[ITEM_HEADER] = json.dumps(fetched.item)
    taken = None if remote.item is None else remote.item["properties"].get("datetime")
    return AsSent(changed, fetched.content, urlencode(said), taken)


async def fetch(
    remote: RemoteRaster, data: DataSection, serve: ServeSection, seconds: float, *, keep: bool = False
) -> Fetched:
    """Bring here what a body names.

    Args:
        remote: What it names.
        data: The use case's data section.
        serve: Its limits, and the addresses that are listed.
        seconds: In which it must have come.
        keep: Keep all bands of a file: the request itself names them.

    Raises:
        DataRefused: If an address is not listed or leads elsewhere, or what lies there cannot be used.
        TooLarge: If it is over the limits.
        OutOfTime: If it does not come in time.
        TemporaryFailure: If its server does not answer.
    """
    rules = serve.remote
    await asyncio.to_thread(require_reachable, remote, data, rules)
    trusted = _storage(rules.prefixes)
    proxy = GuardedProxy(rules.prefixes, trusted=trusted, private=rules.private, most=rules.max_bytes)
    with tempfile.TemporaryDirectory(prefix="terraloop-fetch-") as folder:
        target = Path(folder) / "image.tif"
        order = {
            "href": remote.href, "item": remote.item, "box": remote.box, "crs": remote.crs, "keep": keep,
            "target": str(target), "data": data.model_dump_json(), "limits": serve.limits.model_dump_json(),
            "seconds": seconds,
        }  # fmt: skip
        async with proxy:
            answer = await _ask(order, _environment(proxy.url, with_storage=bool(trusted)), seconds, folder)
        if proxy.exceeded:
            raise TooLarge(
                f"more than {rules.max_bytes} bytes would have to be fetched", where="body", fix="Name a smaller box"
            )
        if "item" in answer:
            content = await asyncio.to_thread(target.read_bytes)
            return Fetched(content, None if answer["item"] is None else _said_of_values(answer["item"]))
    if proxy.refused:
        raise DataRefused(proxy.refused[0], where="body", fix="Name an address that is listed and answers itself")
    raise _failure(answer)


async def _ask(order: dict[str, Any], environment: dict[str, str], seconds: float, folder: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "eo_serving.fetch_process",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, cwd=folder,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            stdout, _ = await process.communicate(json.dumps(order).encode())
        found = json.loads(stdout)
        assert isinstance(found, dict)  # noqa: S101 - our own process
        return found
    except TimeoutError as error:
        raise OutOfTime(
            f"what is named did not come in {seconds:.3g} s", where="body", fix="Name a smaller box, or try again later"
        ) from error
    except ValueError:
        log.warning("a fetcher ended with %s", process.returncode)
        return {"refused": {"kind": "DataRefused", "what": "what is named cannot be read within the memory and the "
                            "time that it is allowed", "where": "body", "fix": "Name a smaller box"}}  # fmt: skip
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _failure(answer: dict[str, Any]) -> Exception:
    if "failed" in answer:
        return RuntimeError(f"in the fetcher: {answer['failed']}")
    said = answer["refused"]
    kind = _REFUSALS.get(said["kind"])
    if kind is None:  # GDAL's own words stay here
        log.warning("a fetch failed: %s: %s", said["where"], said["what"])
        return TemporaryFailure("what is named could not be brought here", where="body", fix="Try again later")
    return kind(said["what"], where=said["where"], fix=said["fix"])


def _environment(proxy: str, *, with_storage: bool) -> dict[str, str]:
    """All ways out lead through the proxy."""
    names = _PASSED_ON + (_STORAGE if with_storage else ())
    found = {name: os.environ[name] for name in names if name in os.environ}
    ways = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GDAL_HTTP_PROXY")
    found |= dict.fromkeys(ways, proxy)
    found |= {"no_proxy": "", "NO_PROXY": "", "GDAL_CACHEMAX": "128"}
    # Without credentials a bucket is read as a stranger reads it; the machine's own role is nobody's to use.
    return found if "AWS_ACCESS_KEY_ID" in found else found | {"AWS_NO_SIGN_REQUEST": "YES"}


def _storage(prefixes: tuple[str, ...]) -> frozenset[Origin]:
    """The servers of the s3 prefixes, which whoever runs the endpoint has named; none without such a prefix."""
    from eo_data.object_storage import endpoint

    buckets = {urlsplit(prefix).netloc for prefix in prefixes if prefix.startswith("s3:")}
    url = endpoint()
    if not buckets or url is not None:
        return frozenset({origin_of(urlsplit(url))} if buckets and url is not None else ())
    region = os.environ.get("AWS_REGION", os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    hosts = (f"s3.{region}.amazonaws.com", "s3.amazonaws.com")
    return frozenset(Origin("https", f"{bucket}.{host}", 443) for bucket in buckets for host in hosts)


def _said_of_values(item: dict[str, Any]) -> dict[str, Any]:
    """The part of an item that radiometry looks at."""
    from eo_data.items import RADIOMETRIC
    from eo_data.scene import IMAGE_ASSET

    kept = {*RADIOMETRIC, *_RADIOMETRIC}
    return {
        "asset": {"bands": item["assets"][IMAGE_ASSET]["bands"]},
        "properties": {key: value for key, value in item["properties"].items() if key in kept},
    }
