"""Ctrl-C, SIGTERM and a closed terminal, as one exception that is raised once.

What ends a program must not be ended itself half-way: after the first signal, further ones are ignored, so
that cleaning up runs to its end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PARENT_VARIABLE: Final = "TERRALOOP_PARENT"
"""The process id of the program that started this one and must outlive it (nox)."""


class Interrupted(BaseException):
    """The user, or the program above, wants this one to end.

    Attributes:
        exit_code: 128 and the signal's number, as shells count.
    """

    def __init__(self, why: str, exit_code: int) -> None:
        super().__init__(why)
        self.exit_code = exit_code


@contextmanager
def interruptible() -> Iterator[None]:
    """Within this, the first ending signal raises `Interrupted`; those after it are ignored."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name, 128 + number)

    before = {each: signal.signal(each, on_signal) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Within this, ending signals are ignored: what cleans up must not be stopped half-way."""
    before = {each: signal.signal(each, signal.SIG_IGN) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def check_parent() -> None:
    """Raise `Interrupted` when the program named by TERRALOOP_PARENT is no longer this one's parent.

    A parent that is killed cannot pass the signal on; its children notice here.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None and os.getppid() != int(parent):
        raise Interrupted("the program that started this one has ended", 128 + signal.SIGHUP)
