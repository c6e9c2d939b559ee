"""The loader: minibatches of chips as NumPy arrays, planned ahead, decoded in threads, normalised once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eo_data.errors import UsageError
from eo_data.loader.blocks_ahead import BlockBuffers, BlocksAhead
from eo_data.loader.chip_list import ChipList
from eo_data.loader.minibatch_buffer import Affine, MinibatchBuffer
from eo_data.loader.plan import DISTINCT_BLOCKS, Plan, plan_epoch
from eo_data.loader.sources import Source

MOST_THREADS: Final = 8
"""Threads that decode, at most, where nobody says how many."""


class ChipPlace(NamedTuple):
    """Which chip: its number in the chip list, its raster's number, its first row and column there."""

    number: int
    raster: int
    top: int
    left: int


@dataclass(frozen=True)
class Minibatch:
    """Chips side by side.

    Attributes:
        images: `[N, bands, H, W]`, float32: reflectance x 10000, normalised where the loader was told how; 0 where
            there are no data.
        labels: `[N, H, W]`, uint8: class indexes, 255 where they are not scored, all 255 without a label.
        valid: `[N, H, W]`, bool, read-only: where there are data.
        chips: Which chips they are.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    chips: tuple[ChipPlace, ...]


class ChipLoader:
    """Iterates over an epoch's minibatches; the next iteration is the next epoch.

    The arrays of a minibatch are buffers that the next one overwrites: use them before asking for it, or say
    `copy=True`. Iterating goes on where it was left, also after `load_state_dict` in another process.

    Memory: the minibatch, and at most `plan().peak_blocks + ahead` blocks; `buffered_bytes` says what they take.

    Args:
        source: Where pixels come from: a `RasterSource` or `DatasetSource`.
        chips: Which chips, such as `grid_chips(source.grids, 256)`.
        minibatch: Chips per minibatch; an epoch's last one may have fewer.
        seed: What chance starts from: same seed, same chips in the same order, with any number of threads.
        buffer: Least chips that minibatches are drawn from; 8 minibatches without it.
        distinct_blocks: Least blocks that a minibatch's chips come from, as long as there are so many.
        weights: A weight per chip: then an epoch draws chips with replacement, each as often as its weight says.
        mean: Per band, reflectance x 10000, subtracted; with `std` alone.
        std: Per band, divided by.
        threads: How many decode; the cores, at most 8, without it.
        ahead: Blocks decoded ahead; twice the threads without it.
        copy: Whether each minibatch has arrays of its own.

    Raises:
        UsageError: If an argument is impossible.
    """

    def __init__(
        self,
        source: Source,
        chips: ChipList,
        *,
        minibatch: int,
        seed: int = 0,
        buffer: int | None = None,
        distinct_blocks: int = DISTINCT_BLOCKS,
        weights: ArrayLike | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        threads: int | None = None,
        ahead: int | None = None,
        copy: bool = False,
    ) -> None:
        self._threads = min(_cores(), MOST_THREADS) if threads is None else threads
        self._ahead = 2 * self._threads if ahead is None else ahead
        _check(source, chips, self._threads, self._ahead)
        self._affine = Affine.per_raster(
            [source.rule(raster) for raster in range(len(source))], source.bands, mean, std
        )
        self._source, self._chips, self._copy = source, chips, copy
        self._minibatch, self._buffer, self._distinct = minibatch, buffer, distinct_blocks
        self._weights = None if weights is None else np.array(weights, dtype=np.float64)
        self._buffers = BlockBuffers(max(source.block_bytes(chips.blocks[block]) for block in np.unique(chips.block)))
        self._spare: list[MinibatchBuffer] = []
        self._seed, self._epoch, self._delivered = seed, 0, 0
        self._plan = self._make_plan()

    def __len__(self) -> int:
        """How many minibatches an epoch has."""
        return len(self._plan)

    @property
    def buffered_bytes(self) -> int:
        """Memory that decoded blocks take, held from one epoch to the next."""
        return self._buffers.made * self._buffers.size

    def plan(self) -> Plan:
        """The plan of the epoch that an iteration starts or goes on with."""
        return self._plan

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch.

        Raises:
            UsageError: If it is below 0.
        """
        self._go_to(epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: seed, epoch, minibatches delivered, and a digest of what was planned from."""
        return {
            "seed": self._seed,
            "epoch": self._epoch,
            "delivered": self._delivered,
            "chips": self._chips.digest(),
            "plan": [self._minibatch, self._buffer, self._distinct, _digest(self._weights)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another loader over the same chips was.

        Raises:
            UsageError: If the state is of another loader.
        """
        mine = self.state_dict()
        for key in ("chips", "plan", "seed"):
            if state.get(key) != mine[key]:
                raise UsageError(f"the state's {key} differ from the loader's", where="state", fix="Load its own state")
        epoch, delivered = state.get("epoch"), state.get("delivered")
        if not (isinstance(epoch, int) and isinstance(delivered, int) and 0 <= delivered <= len(self)):
            raise UsageError("this is no state of a loader", where="state", fix="Load what state_dict gave")
        self._go_to(epoch, delivered)

    def __iter__(self) -> Iterator[Minibatch]:
        """The rest of the epoch.

        Raises:
            DataRefused: If a file has gone, was changed or is damaged, naming it; every thread has ended by then.
        """
        if self._delivered >= len(self._plan):
            self._go_to(self._epoch + 1, 0)
        plan, first = self._plan, self._delivered
        arrays = self._spare.pop() if self._spare else self._arrays()
        try:
            with BlocksAhead(
                self._source, self._chips, plan, first, self._threads, self._ahead, self._buffers
            ) as blocks:
                for number in range(first, len(plan)):
                    minibatch = self._fill(self._arrays() if self._copy else arrays, blocks, number)
                    self._delivered = number + 1
                    yield minibatch
                    if plan is not self._plan:  # set_epoch or load_state_dict in the loop's body
                        return
        finally:
            self._spare.append(arrays)
        self._go_to(self._epoch + 1, 0)

    def _arrays(self) -> MinibatchBuffer:
        return MinibatchBuffer(self._minibatch, self._source.bands, self._chips.size)

    def _fill(self, arrays: MinibatchBuffer, blocks: BlocksAhead, number: int) -> Minibatch:
        """Cut a minibatch's chips and give up the blocks that have no more of them."""
        plan, size = self._plan, self._chips.size
        part = plan.part(number)
        blocks.need(number)
        chips, owners = plan.chips[part].tolist(), plan.blocks[part].tolist()
        tops, lefts = self._tops[part].tolist(), self._lefts[part].tolist()
        places = []
        for slot, (chip, block, top, left) in enumerate(zip(chips, owners, tops, lefts, strict=True)):
            raster = self._chips.blocks[block].raster
            arrays.fill(slot, blocks.cut(block)(top, left, size), self._affine[raster])
            places.append(ChipPlace(chip, raster, top, left))
        blocks.release(number)
        return Minibatch(*arrays.first(len(places)), tuple(places))

    def _go_to(self, epoch: int, delivered: int) -> None:
        before, self._epoch = self._epoch, epoch
        try:
            self._plan = self._make_plan()
        except UsageError:
            self._epoch = before
            raise
        self._delivered = delivered

    def _make_plan(self) -> Plan:
        plan = plan_epoch(
            self._chips.block,
            seed=self._seed,
            epoch=self._epoch,
            minibatch=self._minibatch,
            buffer=self._buffer,
            distinct_blocks=self._distinct,
            weights=self._weights,
        )
        self._tops, self._lefts = self._chips.windows(plan.chips, self._seed, self._epoch)
        return plan


def _digest(weights: NDArray[np.float64] | None) -> str | None:
    return None if weights is None else hashlib.sha256(weights.tobytes()).hexdigest()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(source: Source, chips: ChipList, threads: int, ahead: int) -> None:
    for name, value, least in (("threads", threads, 1), ("ahead", ahead, 0)):
        if value < least:
            raise UsageError(f"{value} is too small", where=name, fix=f"Give at least {least}")
    if not len(chips):
        raise UsageError("there are no chips", where="chips", fix="Take smaller chips or other rasters")
    if max(block.raster for block in chips.blocks) >= len(source):
        raise UsageError("the chips are of other rasters", where="chips", fix="Make the list from this source's grids")
