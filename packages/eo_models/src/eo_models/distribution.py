"""Training in several processes that `torchrun` started: who this one is, and what they say to each other.

Process 0 is the chief: it alone talks to the registry, logs, keeps checkpoints and hands the result over. The others
do what it says, and end when it has nothing for them to do. torch is imported by none of this unless there are others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from eo_data.errors import UsageError

PATIENCE: Final = timedelta(minutes=30)
"""How long a process waits for the others, such as for the chief to look through the chips; the dead show at once."""


@dataclass(frozen=True)
class Processes:
    """The processes of one training.

    Attributes:
        rank: Number of this one.
        size: How many there are.
        local_size: How many of them are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def chief(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    @property
    def machines(self) -> int:
        """How many machines they are on."""
        return self.size // self.local_size

    def tell(self, text: str) -> str:
        """What the chief says, in every process; the others' own text is of no account."""
        if self.size == 1:
            return text
        from torch import distributed

        said = [text]
        distributed.broadcast_object_list(said, src=0)
        return said[0]


ALONE: Final = Processes()
"""No others."""


def started_processes() -> Processes:
    """What `torchrun` says in the environment; `ALONE` where it did not start this process.

    Raises:
        UsageError: If the machines hold different numbers of processes.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ALONE
    rank, size, local_size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if size % local_size:
        raise UsageError(
            f"{size} processes are not {local_size} on each machine",
            where="torchrun",
            fix="Give every node the same --nproc-per-node",
        )
    return Processes(rank, size, local_size)


@contextmanager
def joined(processes: Processes) -> Iterator[None]:
    """Connected with the others, by gloo; alone nothing happens. Of their log only warnings are kept.

    A process that dies takes the others with it: their next exchange fails, and `torchrun` ends the job.
    """
    if processes.size == 1:
        yield
        return
    from torch import distributed

    if not processes.chief:
        logging.getLogger().setLevel(logging.WARNING)
    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()
