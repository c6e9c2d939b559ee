"""Ask a service of ours over HTTP, never through a proxy."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Final

_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def status(url: str, timeout: float = 5.0) -> int | None:
    """The HTTP status of a GET; None if nobody answers.

    Args:
        url: An http:// URL.
        timeout: Seconds to wait for an answer.
    """
    try:
        with _DIRECT.open(url, timeout=timeout) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None
