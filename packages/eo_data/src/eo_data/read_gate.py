"""A raster that several threads may read: one at a time, and none once it is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self


class ReadGate:
    """Guards what is open inside its `with` block; leaving the block waits for a read that is under way.

    Who reads ahead may still be reading when whoever asked has given up.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open = True

    def __enter__(self) -> Self:
        """Open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, after the last read."""
        with self._lock:
            self._open = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read alone.

        Raises:
            RuntimeError: If it is closed.
        """
        with self._lock:
            if not self._open:
                raise RuntimeError("the raster is closed")
            yield
