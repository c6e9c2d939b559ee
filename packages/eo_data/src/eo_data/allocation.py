"""How this process gets memory from the system: in large pieces that it keeps.

glibc takes every array above a few hundred kilobytes from the system anew and gives it back when it is freed; the
system hands it out page by page, at a fault each. Where arrays of some megabytes come and go, as tiles do, that can
cost more than all that is computed with them.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""Parameters of glibc's `mallopt`, as `malloc.h` numbers them."""

SETTINGS: Final = {
    _MMAP_THRESHOLD: 32 * 2**20,  # the most that glibc takes; larger arrays still come from the system and go back
    _TRIM_THRESHOLD: 256 * 2**20,
    _TOP_PAD: 16 * 2**20,
    _ARENA_MAX: 4,  # each thread pool keeps its own otherwise
}


def keep_freed_memory() -> bool:
    """Keep up to 256 MiB that were freed for what is needed next; whether the allocator took it.

    Nothing is done where it is no glibc, or where the environment says how it is to allocate (`MALLOC_...`,
    `GLIBC_TUNABLES`, another allocator in `LD_PRELOAD`).
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or {"GLIBC_TUNABLES", "LD_PRELOAD"} & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in SETTINGS.items()])
