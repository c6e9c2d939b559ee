"""Memory that was freed is used again, without the system."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from eo_data.allocation import keep_freed_memory

took = keep_freed_memory() if sys.argv[1] == "keep" else None
for _ in range(3):
    np.ones(500_000)  # 4 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    np.ones(500_000)
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str, **variables: str) -> tuple[str, int]:
    """What `keep_freed_memory` says, and page faults of a hundred arrays of 4 MB, a thousand pages each."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], env={**clean, **variables}, capture_output=True, text=True, check=True
    )
    said, count = answer.stdout.split()
    return said, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_arrays_that_come_and_go_cost_no_page_faults() -> None:
    said, kept = faults("keep")
    assert said == "True"
    assert kept < 2000  # two arrays' worth, of a hundred


def test_who_chose_an_allocator_keeps_it() -> None:
    for name, value in (("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.check=0")):
        assert faults("keep", **{name: value})[0] == "False"
