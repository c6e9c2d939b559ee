"""The plan of an epoch: which chips make up which minibatch, and when each block has to be there.

A pure function of the chips' blocks, the seed and the epoch. It never looks at pixels, so that the same seed gives
the same chips whatever reads them with however many threads, and so that an epoch can be resumed anywhere.

Blocks enter a buffer in random order; minibatches are drawn from the buffer, of distinct blocks first. Chips of one
block are alike: minibatches of one tile broke contrastive training elsewhere (torchgeo #3548).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eo_data.errors import UsageError

MINIBATCHES_BUFFERED: Final = 8
BLOCKS_BUFFERED: Final = 16
DISTINCT_BLOCKS: Final = 8


@dataclass(frozen=True)
class Plan:
    """The chips of an epoch in the order of their delivery.

    Attributes:
        chips: Indexes of chips `[n]`.
        blocks: The block of each `[n]`.
        minibatch: Chips per minibatch; the last one may have fewer.
    """

    chips: NDArray[np.int64]
    blocks: NDArray[np.int64]
    minibatch: int

    def __len__(self) -> int:
        """How many minibatches."""
        return -(-len(self.chips) // self.minibatch)

    def part(self, number: int) -> slice:
        """Where a minibatch lies in `chips` and `blocks`."""
        return slice(number * self.minibatch, min((number + 1) * self.minibatch, len(self.chips)))

    @cached_property
    def uses(self) -> dict[int, tuple[int, int]]:
        """Each block's first and last minibatch, in the order of first use."""
        found: dict[int, tuple[int, int]] = {}
        for position, block in enumerate(self.blocks.tolist()):
            number = position // self.minibatch
            found[block] = (found[block][0] if block in found else number, number)
        return found

    @property
    def peak_blocks(self) -> int:
        """The most blocks that have to be there at once."""
        change = np.zeros(len(self) + 1, dtype=np.int64)
        for first, last in self.uses.values():
            change[first] += 1
            change[last + 1] -= 1
        return int(change.cumsum().max(initial=0))


def plan_epoch(
    blocks: NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    minibatch: int,
    buffer: int | None = None,
    distinct_blocks: int = DISTINCT_BLOCKS,
    weights: ArrayLike | None = None,
) -> Plan:
    """Plan an epoch.

    Without weights it holds every chip exactly once. With weights it holds as many draws as there are chips, with
    replacement, each chip as often as its weight says.

    Args:
        blocks: The block of each chip `[n]`.
        seed: Any integer from 0.
        epoch: Any integer from 0.
        minibatch: Chips per minibatch.
        buffer: Least chips to draw from while there are more; 8 minibatches without it. It is filled from at least
            16 blocks in any case.
        distinct_blocks: Least blocks that a minibatch's chips come from, as long as so many have chips left.
        weights: A weight per chip `[n]`, in any unit.

    Raises:
        UsageError: If a number is impossible, or the weights are not one per chip, all at least 0 and one above.
    """
    buffered = MINIBATCHES_BUFFERED * minibatch if buffer is None else buffer
    for name, value, least in (
        ("seed", seed, 0),
        ("epoch", epoch, 0),
        ("minibatch", minibatch, 1),
        ("buffer", buffered, minibatch),
        ("distinct_blocks", distinct_blocks, 1),
    ):
        if value < least:
            raise UsageError(f"{value} is too small", where=name, fix=f"Give at least {least}")
    rng = np.random.default_rng([seed, epoch])
    chosen = np.arange(len(blocks)) if weights is None else _draw(rng, _checked(weights, len(blocks)))
    chosen = rng.permutation(chosen)
    pool = _Pool(rng, _by_block(rng, chosen, blocks), buffered, max(BLOCKS_BUFFERED, 2 * distinct_blocks))
    order = np.fromiter(
        (chip for _ in range(0, len(chosen), minibatch) for chip in pool.draw(minibatch, distinct_blocks)),
        dtype=np.int64,
        count=len(chosen),
    )
    return Plan(order, blocks[order], minibatch)


def _checked(weights: ArrayLike, count: int) -> NDArray[np.float64]:
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (count,):
        raise UsageError(f"weights of shape {array.shape} for {count} chips", where="weights", fix="Give one per chip")
    if not (np.isfinite(array).all() and (array >= 0).all() and (array.any() or not count)):
        raise UsageError(
            "a weight is negative or no number, or all are 0", where="weights", fix="Give numbers from 0 on"
        )
    return array


def _draw(rng: np.random.Generator, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """As many indexes as there are weights, with replacement."""
    return rng.choice(len(weights), size=len(weights), p=weights / weights.sum()) if len(weights) else np.arange(0)


def _by_block(rng: np.random.Generator, chosen: NDArray[np.int64], blocks: NDArray[np.int64]) -> list[list[int]]:
    """The chips of each block, the blocks in random order, the chips in the order given."""
    order = np.argsort(blocks[chosen], kind="stable")
    parts = np.split(chosen[order], np.flatnonzero(np.diff(blocks[chosen][order])) + 1) if len(chosen) else []
    return [parts[index].tolist() for index in rng.permutation(len(parts))]


class _Pool:
    """The blocks that minibatches are drawn from."""

    def __init__(self, rng: np.random.Generator, waiting: Sequence[list[int]], chips: int, blocks: int) -> None:
        self._rng = rng
        self._waiting: Iterator[list[int]] = iter(waiting)
        self._least_chips, self._least_blocks = chips, blocks
        self._open: list[list[int]] = []
        self._held = 0

    def draw(self, count: int, distinct: int) -> list[int]:
        """The next minibatch, in no order that tells anything."""
        drained = not self._fill()
        found: list[int] = []
        if drained:  # nothing comes after these: keep them level, so that the last minibatches are mixed too
            ties = self._rng.permutation(len(self._open))
            self._open = [self._open[index] for index in ties]
            self._open.sort(key=len, reverse=True)
        else:
            self._shuffle(min(distinct, count))
        for block in self._open[: min(distinct, count)]:
            found.append(block.pop())
        self._open = [block for block in self._open if block]
        while len(found) < count and self._open:
            index = self._longest() if drained else int(self._rng.random() * len(self._open))
            found.append(self._open[index].pop())
            if not self._open[index]:
                self._open[index] = self._open[-1]
                self._open.pop()
        self._held -= len(found)
        return [found[index] for index in self._rng.permutation(len(found))]

    def _fill(self) -> bool:
        """Take in blocks until there are enough; False where there are no more."""
        while self._held < self._least_chips or len(self._open) < self._least_blocks:
            block = next(self._waiting, None)
            if block is None:
                return False
            self._open.append(block)
            self._held += len(block)
        return True

    def _shuffle(self, count: int) -> None:
        """Bring `count` random blocks to the front."""
        for place in range(count):
            other = place + int(self._rng.random() * (len(self._open) - place))
            self._open[place], self._open[other] = self._open[other], self._open[place]

    def _longest(self) -> int:
        return max(range(len(self._open)), key=lambda index: len(self._open[index]))
