"""What a run does to its machine: CPU, memory, disk and network, sampled by MLflow's own monitor."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from eo_models.tracked_run import Run

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

log = logging.getLogger(__name__)

SWITCH: Final = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
SECONDS: Final = 5
"""Between samples, unless `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` says otherwise. A sample takes milliseconds."""


@contextmanager
def system_figures(run: Run) -> Iterator[None]:
    """Log the machine's figures to a run as `system/...` while something goes on.

    Needs `psutil` (the extra `monitoring`); `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false` turns it off. Whatever
    becomes of it, the run goes on: MLflow's monitor stops where the server does not answer, and begins again with it.

    Args:
        run: Which.
    """
    if os.environ.get(SWITCH, "true").lower() in {"false", "0"} or find_spec("psutil") is None:
        yield
        return
    monitor = _start(run, resume=False)

    def begin_again() -> None:
        nonlocal monitor
        if monitor is not None:
            monitor.finish()  # type: ignore[no-untyped-call]  # sends what it still holds
            monitor = _start(run, resume=True)

    run.when_back(begin_again)
    try:
        yield
    finally:
        if monitor is not None:
            last, monitor = monitor, None  # nothing begins again after this
            last.finish()  # type: ignore[no-untyped-call]


def _start(run: Run, *, resume: bool) -> SystemMetricsMonitor | None:
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
        monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            run.id, sampling_interval=SECONDS, resume_logging=resume
        )
        monitor.start()  # type: ignore[no-untyped-call]
    except Exception as error:  # a machine that does not tell its figures is no reason not to train on it
        log.warning("no figures of this machine are logged: %s", error)
        return None
    return monitor
