"""The error of a training whose loss is no finite number any more."""

from __future__ import annotations

from eo_data.errors import UsageError


class Diverged(UsageError):
    """The settings made a training diverge: for `train` a wrong configuration, for `tune` one trial that failed."""
