"""Blocks decoded ahead in threads, in the plan's order and within bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.loader.chip_list import ChipList
from eo_data.loader.plan import Plan
from eo_data.loader.sources import CutAt, Readers, Source


class BlockBuffers:
    """Memory for blocks, used again and again: fresh memory would cost a page fault every 4 KiB.

    Args:
        size: Bytes of each.

    Attributes:
        size: Bytes of each.
        made: How many there are.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.made = 0
        self._free: list[NDArray[np.uint8]] = []

    def take(self) -> NDArray[np.uint8]:
        """One that nobody uses, the last one given back first: it may still be in cache."""
        if self._free:
            return self._free.pop()
        self.made += 1
        return np.empty(self.size, dtype=np.uint8)

    def give_back(self, buffer: NDArray[np.uint8]) -> None:
        """Let others use it."""
        self._free.append(buffer)


class BlocksAhead:
    """The blocks that are there: read in the order of their first use, some ahead of it, gone after their last.

    Args:
        source: Where they are read from.
        chips: Whose blocks.
        plan: When they are used.
        first: The first minibatch that is delivered.
        threads: How many read.
        ahead: Blocks beyond those of the minibatch at hand.
        buffers: Where they go.
    """

    def __init__(
        self,
        source: Source,
        chips: ChipList,
        plan: Plan,
        first: int,
        threads: int,
        ahead: int,
        buffers: BlockBuffers,
    ) -> None:
        self._source, self._chips, self._ahead, self._buffers = source, chips, ahead, buffers
        uses = {block: (max(use[0], first), use[1]) for block, use in plan.uses.items() if use[1] >= first}
        self._order = sorted(uses, key=lambda block: uses[block][0])
        self._needed = [uses[block][0] for block in self._order]
        self._last: dict[int, list[int]] = {}
        for block, use in uses.items():
            self._last.setdefault(use[1], []).append(block)
        self._asked = 0
        self._there: dict[int, tuple[Future[CutAt], NDArray[np.uint8]]] = {}
        self._read: dict[int, CutAt] = {}
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> BlocksAhead:
        self._readers: Readers = self._source.readers()
        if self._buffers.size:  # what needs no memory lies mapped already: there is nothing to decode
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="chip-loader")
        return self

    def __exit__(self, *failure: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for _, buffer in self._there.values():
            self._buffers.give_back(buffer)
        self._there.clear()
        self._readers.close()

    def need(self, number: int) -> None:
        """Have every block of a minibatch read or being read, and some of those that come after them.

        Raises:
            DataRefused: If a file has gone or was changed.
        """
        used = int(np.searchsorted(self._needed, number, side="right"))
        for block in self._order[self._asked : used + (self._ahead if self._pool else 0)]:
            buffer = self._buffers.take()
            try:
                task = self._readers.prepare(self._chips.blocks[block], buffer)
            except BaseException:
                self._buffers.give_back(buffer)
                raise
            future = _call(task.run) if self._pool is None else self._pool.submit(task.run)
            future.add_done_callback(lambda _, done=task.done: done())  # type: ignore[misc]
            self._there[block] = (future, buffer)
            self._asked += 1

    def cut(self, block: int) -> CutAt:
        """What cuts chips from a block, as soon as it has been read.

        Raises:
            DataRefused: If it could not be.
        """
        if block not in self._read:
            self._read[block] = self._there[block][0].result()
        return self._read[block]

    def release(self, number: int) -> None:
        """Give up the blocks that no later minibatch uses."""
        for block in self._last.get(number, ()):
            self._buffers.give_back(self._there.pop(block)[1])
            self._read.pop(block, None)


def _call(run: Callable[[], CutAt]) -> Future[CutAt]:
    """Call it here and now."""
    future: Future[CutAt] = Future()
    try:
        future.set_result(run())
    except DataRefused as error:
        future.set_exception(error)
    return future
