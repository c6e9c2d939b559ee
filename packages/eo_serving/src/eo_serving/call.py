"""One call at work: the moment by which its answer must be ready, and what its time went to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from eo_serving.problem import OutOfTime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from eo_serving.input_sample import InputSample

STAGES: Final = ("read", "decode", "infer", "blend", "encode")
"""Reading the body, making reflectance of it, the model, joining its tiles, writing the answer."""


class Call:
    """A stopwatch with a limit.

    Args:
        seconds: In which the answer must be ready; None for any number.
        sample: Gathers what the input is like; None where nobody asks.
        masks: Takes the rows of the mask in their order; None where nobody asks.
    """

    def __init__(
        self,
        seconds: float | None = None,
        sample: InputSample | None = None,
        masks: list[NDArray[np.uint8]] | None = None,
    ) -> None:
        self.sample = sample
        self.masks = masks
        self._seconds = seconds
        self._began = time.monotonic()
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._open: list[str] = []
        self._mark = 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the limit, 0 once it has passed; None where there is none."""
        return None if self._seconds is None else max(0.0, self._began + self._seconds - time.monotonic())

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds of each stage, without those of stages inside it."""
        return self._spent

    def check(self) -> None:
        """Raise `OutOfTime` once the limit has passed."""
        if self._seconds is not None and time.monotonic() > self._began + self._seconds:
            raise OutOfTime(
                f"the answer was not ready in {self._seconds:g} s",
                where="body",
                fix="Send a smaller raster, or use `eo-serving predict` for whole scenes",
            )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What happens in this block is this stage, save for the stages inside it."""
        self._note()
        self._open.append(name)
        try:
            yield
        finally:
            self._note()
            self._open.pop()

    def _note(self) -> None:
        now = time.perf_counter()
        if self._open:
            self._spent[self._open[-1]] += now - self._mark
        self._mark = now
