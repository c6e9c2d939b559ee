"""Every error a user can meet, and the one table from error to exit code and HTTP status.

```
TerraloopError            1   500   something of ours is wrong
├── UsageError            2   400   the call or its configuration is wrong
├── DataRefused           3   422   the data cannot be used as they are
├── GateRefused           4    -    the candidate was judged and not promoted
└── TemporaryFailure     75   503   a store, registry or server is out of reach
```

An error says *what* is wrong, *where*, and what to do next (*fix*).
"""

from __future__ import annotations

from typing import Any, Final


class TerraloopError(Exception):
    """Something went wrong that a user can be told about.

    Args:
        what: What is wrong, one sentence without a full stop.
        where: The file, URI, flag or configuration path that it is about.
        fix: What to do next, one sentence.

    Attributes:
        result: The step's result, for the rare failure that has one.
    """

    result: dict[str, Any] | None = None

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        """The message for people: `where: what. fix`."""
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}. {self.fix}" if self.fix else head


class UsageError(TerraloopError):
    """The call or its configuration is wrong; nothing was started."""


class DataRefused(TerraloopError):
    """Data that cannot be used: unreadable, wrong bands, size, CRS or radiometry."""


class GateRefused(TerraloopError):
    """The gate did not promote the candidate; `result` is the step's result all the same."""

    result: dict[str, Any]

    def __init__(self, what: str, *, result: dict[str, Any], where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.result = result


class TemporaryFailure(TerraloopError):
    """A store, registry or server is out of reach for the moment; the same call may succeed later."""


EXIT_CODES: Final[dict[type[BaseException], int]] = {
    UsageError: 2,
    DataRefused: 3,
    GateRefused: 4,
    TemporaryFailure: 75,
    TerraloopError: 1,
}
"""Exit code by class of error (design 4.1); the nearest class of an error's hierarchy counts."""

HTTP_STATUS: Final[dict[type[BaseException], int]] = {
    UsageError: 400,
    DataRefused: 422,
    TemporaryFailure: 503,
    TerraloopError: 500,
}
"""HTTP status by class of error (design 4.1)."""


def exit_code(error: BaseException) -> int:
    """The exit code of an error: that of the nearest class in its hierarchy, else 1."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), 1)


def http_status(error: BaseException) -> int:
    """The HTTP status of an error: that of the nearest class in its hierarchy, else 500."""
    return next((HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS), 500)
