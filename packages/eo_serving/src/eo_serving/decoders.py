"""Decoding in processes of its own: a raster that takes its decoder down takes nothing else with it.

A few decoders wait for work and are used again and again; one that died, hangs, or has grown large is not. What
they answer is checked like any other input: whoever sent the raster may have taken the decoder over.
"""

from __future__ import annotations

import fcntl
import json
import logging
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from socket import socketpair
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from eo_data.errors import DataRefused, TerraloopError, UsageError
from eo_data.read_gate import ReadGate
from eo_serving.problem import OutOfTime, TooLarge
from eo_serving.raster_limits import check_size

if TYPE_CHECKING:
    from affine import Affine

    from eo_data.radiometry import Radiometry
    from eo_data.tiling import Pixels, Valid
    from eo_serving.raster_bodies import RasterBody

log = logging.getLogger("mlserver.terraloop")

_KEPT_BYTES: Final = 2**27
"""Decoders that share more memory than this are ended rather than kept."""
_LATE: Final = 5.0
"""Seconds beyond a request's time until a decoder that does not answer is ended."""
_MOST_ANSWER: Final = 2**20
_REFUSALS: Final = {kind.__name__: kind for kind in (DataRefused, UsageError, TooLarge)}

_Shape = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
_Six = tuple[float, float, float, float, float, float]


class _Header(BaseModel):
    """What a decoder says of a raster."""

    shape: _Shape
    crs: Annotated[str, Field(max_length=_MOST_ANSWER)] | None
    transform: _Six | None
    radiometry: tuple[float, float, float | None, str]
    taken: Annotated[str, Field(max_length=_MOST_ANSWER)] | None


class _Refused(BaseModel):
    """A decoder's refusal."""

    kind: str
    what: str
    where: str
    fix: str


class DecoderDied(DataRefused):
    """The raster took its decoder down."""

    def __init__(self) -> None:
        super().__init__(
            "this raster cannot be decoded within the memory and the time that it is allowed",
            where="body",
            fix="Write it again with `gdal_translate -co TILED=YES -co COMPRESS=DEFLATE`, or cut it",
        )


@dataclass(frozen=True)
class DecodedRaster:
    """A raster that is open in a decoder; `eo_serving.raster_bodies.OpenRaster`."""

    shape: tuple[int, int]
    crs: Any
    transform: Affine | None
    radiometry: Radiometry
    taken: str | None
    _bands: int
    _decoder: _Decoder
    _seconds: float | None
    gate: ReadGate = field(default_factory=ReadGate)

    def read(self, top: int, left: int, height: int, width: int) -> tuple[Pixels, Valid]:
        """A window; the arrays are views that hold until the next call."""
        shape = (self._bands, height, width)
        with self.gate.reading():
            self._decoder.share((4 * self._bands + 1) * height * width)
            self._decoder.ask(self._seconds, order="read", top=top, left=left, height=height, width=width)
            return self._decoder.pixels(shape)


class Decoders:
    """Decoders that wait for work.

    Args:
        memory: Bytes of address space that one may take.
        idle: How many are kept when there is no work.
    """

    def __init__(self, memory: int = 2**30, idle: int = 4) -> None:
        self._memory = memory
        self._most_idle = idle
        self._idle: list[_Decoder] = []
        self._lock = threading.Lock()

    def start(self, count: int) -> None:
        """Let so many wait already, so that the first requests need not."""
        with self._lock:
            missing = min(count, self._most_idle) - len(self._idle)
            self._idle += [_Decoder(self._memory) for _ in range(missing)]

    def stop(self) -> None:
        """End those that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.end()

    @contextmanager
    def open_body(self, body: RasterBody, seconds: float | None = None) -> Iterator[DecodedRaster]:
        """Open a body in a decoder.

        Args:
            body: What was sent.
            seconds: In which all of it must be done; then the decoder is ended.

        Raises:
            DataRefused: If it is no readable GeoTIFF of the use case, or its decoder dies of it.
            TooLarge: If it is over the limits.
            OutOfTime: If the decoder does not answer in time.
        """
        decoder = self._take()
        try:
            raster = decoder.open(body, seconds)
            with raster.gate:
                yield raster
            decoder.ask(seconds, order="close")
        except TerraloopError:
            decoder.let_go()
            raise
        except BaseException:
            decoder.end()  # whatever it was doing, nobody waits for it
            raise
        finally:
            self._give(decoder)

    def _take(self) -> _Decoder:
        with self._lock:
            while self._idle:
                decoder = self._idle.pop()
                if decoder.usable:
                    return decoder
        return _Decoder(self._memory)

    def _give(self, decoder: _Decoder) -> None:
        with self._lock:
            if decoder.usable and decoder.shared <= _KEPT_BYTES and len(self._idle) < self._most_idle:
                self._idle.append(decoder)
                return
        decoder.end()


class _Decoder:
    """One child process, and the memory that is shared with it."""

    def __init__(self, memory: int) -> None:
        ours, theirs = socketpair()
        self._body, self._pixels = _shared_memory("body"), _shared_memory("pixels")
        self._view: mmap.mmap | None = None
        self.shared = 0
        descriptors = (theirs.fileno(), self._body, self._pixels)
        environment = {**os.environ, "GDAL_CACHEMAX": "128", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "eo_serving.decoder_process", *map(str, descriptors), str(memory)],
                pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
        except OSError:  # no memory or no process left: the next request may find some
            for descriptor in (self._body, self._pixels):
                os.close(descriptor)
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = Connection(ours.detach())

    @property
    def usable(self) -> bool:
        """Whether it can be asked."""
        return not self._control.closed and self._process.poll() is None

    def open(self, body: RasterBody, seconds: float | None) -> DecodedRaster:
        """Send a body and read its header."""
        from affine import Affine
        from rasterio.crs import CRS

        from eo_data.radiometry import Radiometry

        os.ftruncate(self._body, max(len(body.content), os.fstat(self._body).st_size))
        os.pwrite(self._body, body.content, 0)
        self.shared = max(self.shared, len(body.content))
        answer = self.ask(
            seconds, order="open", size=len(body.content), data=body.data.model_dump_json(),
            limits=body.limits.model_dump_json(), radiometry=body.radiometry, bands=body.bands, seconds=seconds,
            asset=body.asset, properties=body.properties,
        )  # fmt: skip
        try:
            header = _Header.model_validate(answer)
            check_size(body.limits, header.shape)
            return DecodedRaster(
                header.shape,
                None if header.crs is None else CRS.from_wkt(header.crs),
                None if header.transform is None else Affine(*header.transform),
                Radiometry(*header.radiometry),
                header.taken,
                len(body.data.input_bands),
                self,
                seconds,
            )
        except (ValidationError, ValueError) as error:
            self.end()
            log.error("a decoder answers nonsense: %s", error)
            raise DecoderDied from error

    def ask(self, patience: float | None, **order: Any) -> Any:
        """Send an order and wait for its answer."""
        try:
            self._control.send_bytes(json.dumps(order).encode())
            if not self._control.poll(None if patience is None else patience + _LATE):
                self.end()
                raise OutOfTime(f"decoding did not end in {patience:g} s", where="body", fix="Send a smaller raster")
            answer = json.loads(self._control.recv_bytes(_MOST_ANSWER))
            refused = answer.get("refused")
            failed = answer.get("failed")
            refusal = None if refused is None else _Refused.model_validate(refused)
        except (OSError, EOFError, ValueError, AttributeError, RecursionError) as error:
            code = self.end()
            log.warning("a decoder ended with %s", code)
            raise DecoderDied from error
        if failed is not None:
            raise RuntimeError(f"in the decoder: {failed}")
        if refusal is not None:
            kind = _REFUSALS.get(refusal.kind, DataRefused)
            raise kind(refusal.what, where=refusal.where, fix=refusal.fix)
        return answer

    def share(self, size: int) -> None:
        """Make the memory for pixels large enough; it never shrinks."""
        if self._view is not None and len(self._view) >= size:
            return
        os.ftruncate(self._pixels, size)
        self._view = mmap.mmap(self._pixels, size, prot=mmap.PROT_READ)  # the one before ends with its last array
        self.shared = max(self.shared, size)

    def pixels(self, shape: tuple[int, int, int]) -> tuple[Pixels, Valid]:
        """The window that was read last."""
        assert self._view is not None, "share() comes first"  # noqa: S101
        count = shape[0] * shape[1] * shape[2]
        pixels = np.frombuffer(self._view, np.float32, count).reshape(shape)
        valid = np.frombuffer(self._view, np.uint8, shape[1] * shape[2], 4 * count).reshape(shape[1:]) != 0
        return pixels, valid

    def let_go(self) -> None:
        """Close what is open, after a refusal."""
        if self.usable:
            try:
                self.ask(_LATE, order="close")
            except (TerraloopError, RuntimeError):
                self.end()

    def end(self) -> int:
        """End the process; its exit code."""
        if not self._control.closed:
            self._control.close()
            os.close(self._body)
            os.close(self._pixels)
        self._process.kill()
        return self._process.wait()


def _shared_memory(name: str) -> int:
    """Memory as a file that never shrinks: else whoever shares it could end this process by cutting it short."""
    descriptor = os.memfd_create(f"terraloop-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor
