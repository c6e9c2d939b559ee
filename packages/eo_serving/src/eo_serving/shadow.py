"""A challenger beside the champion: it answers nobody, and how often it would have answered otherwise is counted.

It is asked after a client has its answer, one request at a time; requests that come meanwhile it does not see.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from eo_data.errors import TerraloopError
from eo_data.usecase import IGNORE
from eo_serving.call import Call
from eo_serving.media import NPY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eo_serving.invocation import Invocation
    from eo_serving.raster_bodies import OpenBody
    from eo_serving.service import Service

log = logging.getLogger("mlserver.terraloop")


class ShadowCounts(BaseModel):
    """What came of it so far.

    Attributes:
        model: The challenger, `<name>/<version>`.
        requests: That it was asked.
        pixels: That both gave a class.
        differing: Of these, where the classes differ.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    requests: int = 0
    pixels: int = 0
    differing: int = 0


@dataclass
class _Work:
    invocation: Invocation
    masks: Sequence[NDArray[np.uint8]]
    champion: str


class Shadow:
    """A challenger.

    Args:
        service: It.
        opener: Opens rasters.
    """

    def __init__(self, service: Service, opener: OpenBody) -> None:
        self._service = service
        self._opener = opener
        self._busy = threading.Lock()
        self.counts = ShadowCounts(model=service.label)

    def ask(self, invocation: Invocation, masks: Sequence[NDArray[np.uint8]], champion: str) -> None:
        """Have a request answered in a thread of its own, unless one is being answered.

        Args:
            invocation: What was sent.
            masks: The champion's answer, rows of masks in their order.
            champion: Who gave it.
        """
        if self._busy.acquire(blocking=False):
            work = _Work(invocation, masks, champion)
            threading.Thread(target=self._compare, args=(work,), name="shadow", daemon=True).start()

    def _compare(self, work: _Work) -> None:
        from eo_serving.invocation import answer

        try:
            own: list[NDArray[np.uint8]] = []
            call = Call(self._service.serve.limits.request_seconds, masks=own)
            answer(replace(work.invocation, accept=NPY), self._service, call, self._opener)
            self._count(np.concatenate(work.masks), np.concatenate(own), work.champion)
        except TerraloopError as error:
            log.warning("the shadow %s refuses what %s answered: %s", self._service.label, work.champion, error)
        except Exception:
            log.exception("the shadow %s fails", self._service.label)
        finally:
            self._busy.release()

    def _count(self, theirs: NDArray[np.uint8], own: NDArray[np.uint8], champion: str) -> None:
        both = (theirs != IGNORE) & (own != IGNORE)
        pixels, differing = int(both.sum()), int((both & (theirs != own)).sum())
        before = self.counts
        self.counts = ShadowCounts(
            model=before.model,
            requests=before.requests + 1,
            pixels=before.pixels + pixels,
            differing=before.differing + differing,
        )
        log.info(
            "shadow %s differs from %s on %d of %d pixels (%.4f so far)",
            before.model, champion, differing, pixels, self.counts.differing / max(self.counts.pixels, 1),
        )  # fmt: skip
