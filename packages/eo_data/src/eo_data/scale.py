"""Scale out: the same pure function over many items, in this process or on a Dask cluster (`--dask`).

Results come in the order of the items wherever they were made, so that a digest over them is the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar

from eo_data.errors import TemporaryFailure, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

LOCAL: Final = "local"
"""In place of an address: a cluster of this machine's cores, ended with the step."""

ADDRESS: Final = re.compile(r"(tcp|tls|ws|wss|ucx)://\S+:\d+")


class Run(Protocol):
    """Apply a function to items; results in the items' order, each as soon as it and those before it are there."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item; the first error raised ends it."""
        ...


@contextmanager
def workers(dask: str | None) -> Iterator[Run]:
    """What runs a step's work: this process without an address, else the cluster's workers.

    On a cluster, functions must be importable there and items small: URIs and records, not pixels.

    Args:
        dask: Address of a Dask scheduler, such as `tcp://127.0.0.1:8786`; `local` starts a cluster of this
            machine's cores and ends it; None is this process.

    Raises:
        UsageError: If the address is none, or Dask's scheduler is not installed.
        TemporaryFailure: If the scheduler does not answer, or a worker died again and again.
    """
    if dask is None:
        yield _here
        return
    try:
        from distributed import Client, KilledWorker, LocalCluster
        from distributed.comm.core import CommClosedError
    except ImportError as error:
        raise UsageError(
            "Dask's scheduler is not installed here", where="--dask", fix="Install eo-data[scale]"
        ) from error
    if dask != LOCAL and not ADDRESS.fullmatch(dask):
        raise UsageError(
            "this is no address of a Dask scheduler", where=f"--dask {dask}", fix="Such as tcp://HOST:8786"
        )
    with _failures(dask, KilledWorker, CommClosedError):
        if dask == LOCAL:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            with (
                LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=cores, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
                ) as cluster,
                Client(cluster) as client,  # type: ignore[no-untyped-call]
            ):
                yield _run_on(client)
        else:
            with Client(dask, timeout=10, set_as_default=False) as client:  # type: ignore[no-untyped-call]
                yield _run_on(client)


def _here(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    return map(function, items)


def _run_on(client: Any) -> Run:
    def run(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        # `pure=False`: a key by content would hand back the result of an earlier step, from another state of the store.
        futures = client.map(function, list(items), pure=False, retries=1)
        try:
            for future in futures:
                yield future.result()
                future.release()
        finally:
            client.cancel(futures)

    return run


@contextmanager
def _failures(address: str, killed: type[Exception], closed: type[Exception]) -> Iterator[None]:
    try:
        yield
    except killed as error:
        raise TemporaryFailure(
            f"a Dask worker died again and again ({error})", where=address, fix="Give its workers more memory"
        ) from error
    except (closed, CancelledError, TimeoutError, ConnectionError) as error:
        raise TemporaryFailure(
            f"the Dask scheduler does not answer ({str(error) or type(error).__name__})",
            where=address,
            fix="Check the address and that it runs, or give --dask local",
        ) from error
