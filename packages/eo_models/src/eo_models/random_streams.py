"""Seeds for everything that draws: a pure function of the section's seed, the purpose, the epoch and the process.

No generator outlives an epoch. The epoch's number is then all that a training which goes on must know of chance.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Purpose = Literal["augmentation", "dropout"]

_NUMBERS: dict[Purpose, int] = {"augmentation": 1, "dropout": 2}


def stream_seed(seed: int, purpose: Purpose, epoch: int, rank: int = 0) -> int:
    """A seed for torch, 63 bits.

    Args:
        seed: Of the training, from 0.
        purpose: What is drawn.
        epoch: From 0.
        rank: Of the process, where each draws for itself.
    """
    state = np.random.SeedSequence([seed, _NUMBERS[purpose], epoch, rank]).generate_state(1, np.uint64)
    return int(state[0]) >> 1
