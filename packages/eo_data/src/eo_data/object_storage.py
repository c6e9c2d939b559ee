"""How S3 is reached: the same variables for the store, for sources and for GDAL (design 4.7).

The endpoint is `AWS_ENDPOINT_URL_S3`, else `AWS_ENDPOINT_URL`, else `MLFLOW_S3_ENDPOINT_URL`; without one it is AWS
itself. Credentials and region are AWS's own variables, which obstore and GDAL read by themselves.
"""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import urlsplit

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
_CACHE_BYTES: Final = 192 * 2**20
"""Holds two rows of blocks of a scene 10980 pixels wide with six bands; GDAL's own is a twentieth of the machine."""


def endpoint() -> str | None:
    """The S3 endpoint's URL; None is AWS."""
    return next((url.rstrip("/") for name in _ENDPOINTS if (url := os.environ.get(name))), None)


def obstore_options() -> dict[str, Any]:
    """What obstore's `S3Store` needs beyond AWS's own variables."""
    url = endpoint()
    options: dict[str, Any] = {
        "region": os.environ.get("AWS_REGION", os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    }
    if url is None:
        return options
    # Of a server of one's own the bucket is a path, not a host.
    options |= {"endpoint": url, "virtual_hosted_style_request": False}
    return options | ({"client_options": {"allow_http": True}} if url.startswith("http://") else {})


def gdal_options() -> dict[str, Any]:
    """GDAL's configuration for `/vsis3/` and `/vsicurl/`: the endpoint, few requests, retries of what may pass.

    And for all files: a cache that does not grow with the machine, unless `GDAL_CACHEMAX` says otherwise.
    """
    options: dict[str, Any] = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no listing of the folder, and no sidecar files
        "GDAL_HTTP_MAX_RETRY": "3",
        "GDAL_HTTP_RETRY_DELAY": "0.5",
        "GDAL_HTTP_CONNECTTIMEOUT": "10",
        "GDAL_HTTP_LOW_SPEED_TIME": "30",
        "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
        "VSI_CACHE": "NO",
    }
    if "GDAL_CACHEMAX" not in os.environ:
        options["GDAL_CACHEMAX"] = _CACHE_BYTES
    url = endpoint()
    if url is not None:
        parts = urlsplit(url)
        options |= {
            "AWS_S3_ENDPOINT": parts.netloc + parts.path,
            "AWS_HTTPS": "NO" if parts.scheme == "http" else "YES",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
    return options
