"""What outlives a load in this process: which version answers, by model name, its challenger, and the decoders.

MLServer moves the route of `/invocations` to a new runtime *before* that runtime has loaded, and imports the
runtime's module anew with each load. So the version that answers is kept here, outside both: it changes only once
the new one has passed its test, and stays when the new one fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eo_serving.decoders import Decoders

if TYPE_CHECKING:
    from eo_serving.service import Service
    from eo_serving.shadow import Shadow

_current: dict[str, Service] = {}
_shadows: dict[str, Shadow] = {}

decoders = Decoders()
"""They start when they are needed first; `decoders.start` lets some wait already."""


def put(name: str, service: Service) -> None:
    """Let a version answer from now on; calls that run already end with the one they began with."""
    _current[name] = service


def put_shadow(name: str, shadow: Shadow | None) -> None:
    """Let a challenger, or none, stand beside the version that answers."""
    if shadow is None:
        _shadows.pop(name, None)
    else:
        _shadows[name] = shadow


def get_shadow(name: str) -> Shadow | None:
    """The challenger; None where there is none."""
    return _shadows.get(name)


def get(name: str) -> Service | None:
    """The version that answers; None where there is none yet."""
    return _current.get(name)
