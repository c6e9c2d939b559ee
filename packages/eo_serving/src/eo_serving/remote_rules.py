"""Which addresses the endpoint reads for a caller: none, unless the use case's `serve.remote` lists prefixes.

What is asked for is compared as text, before anything is opened. Where a name then leads, and where a server sends
one on to, `eo_serving.guarded_proxy` looks at.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from eo_data.errors import DataRefused, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eo_serving.configuration import Remote

PORTS: Final = {"http": 80, "https": 443}
_PLAIN: Final = re.compile(r"[!-~]{1,2048}")
"""What an address consists of: printable ASCII."""
_DISGUISED: Final = re.compile(r"\\|%2f|%5c|%2e|%00|//|/\.{1,2}(?:/|$)", re.IGNORECASE)
"""In a path: what servers may take for another path than it reads as."""


@dataclass(frozen=True)
class Origin:
    """A server that may be asked.

    Attributes:
        scheme: `http` or `https`.
        host: Its name, lower case.
        port: Its port.
    """

    scheme: str
    host: str
    port: int


def require_allowed(href: str, remote: Remote, where: str) -> None:
    """Refuse an address that no prefix covers.

    Args:
        href: What a caller asks for.
        remote: The prefixes.
        where: What it is called in messages.

    Raises:
        DataRefused: If it is not listed, or says one thing and may mean another.
    """
    if not remote.prefixes:
        raise DataRefused("this endpoint reads no addresses", where=where, fix="Send the raster itself as image/tiff")
    parts = _split(href)
    if parts is None or not any(_covers(prefix, parts) for prefix in remote.prefixes):
        raise DataRefused(
            "this address is none that the endpoint reads",
            where=where,
            fix="Use one below a prefix that whoever runs the endpoint has listed in serve.remote.prefixes",
        )


def covered(url: str, prefixes: Sequence[str]) -> bool:
    """Whether a URL lies below a prefix."""
    parts = _split(url)
    return parts is not None and any(_covers(prefix, parts) for prefix in prefixes)


def origins(prefixes: Sequence[str]) -> frozenset[Origin]:
    """The servers of the http(s) prefixes."""
    return frozenset(origin_of(urlsplit(prefix)) for prefix in prefixes if prefix.startswith("http"))


def origin_of(parts: SplitResult) -> Origin:
    """The server of an http(s) URL."""
    return Origin(parts.scheme, (parts.hostname or "").rstrip("."), parts.port or PORTS[parts.scheme])


def require_prefix(prefix: str) -> str:
    """A prefix as it is.

    Raises:
        UsageError: If it is none: no http(s) or s3, no host or bucket, or open at its end.
    """
    parts = _split(prefix)
    if parts is None or parts.query or not prefix.endswith("/"):
        raise UsageError(
            f"'{prefix[:80]}' is no prefix", where="serve.remote.prefixes", fix="Such as https://HOST/scenes/, s3://B/"
        )
    return prefix


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network: not loopback, link-local, private, shared or reserved."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if carried is None and ip in _NAT64:
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
    return ip.is_global and not ip.is_multicast


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def _split(href: str) -> SplitResult | None:
    """The parts of an address; None where it is none, or could be read in two ways."""
    if not _PLAIN.fullmatch(href):
        return None
    try:
        parts = urlsplit(href)
        port = parts.port
    except ValueError:
        return None
    known = parts.scheme in PORTS or (parts.scheme == "s3" and port is None and not parts.query)
    if not known or not parts.hostname or parts.fragment or "@" in parts.netloc or _DISGUISED.search(parts.path):
        return None
    return parts


def _covers(prefix: str, parts: SplitResult) -> bool:
    mine = urlsplit(prefix)
    if mine.scheme != parts.scheme or not parts.path.startswith(mine.path):
        return False
    return mine.netloc == parts.netloc if mine.scheme == "s3" else origin_of(mine) == origin_of(parts)
