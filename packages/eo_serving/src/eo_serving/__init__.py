"""A model version to masks: the endpoint, its commands, and a client: `from eo_serving import Client`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eo_serving.client import Client, ClientAnswer

__all__ = ["Client", "ClientAnswer"]


def __getattr__(name: str) -> Any:
    """The client's classes, loaded when they are asked for: every `--help` loads this package."""
    if name in __all__:
        from eo_serving import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
