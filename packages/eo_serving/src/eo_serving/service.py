"""The model in service: a verified version, tested on its golden chip, with the use case that it serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.tiling import RowBand, one_ahead, predict_rows
from eo_data.usecase import IGNORE
from eo_serving.configuration import ServeSection

if TYPE_CHECKING:
    from eo_data.model.files import ModelFiles
    from eo_data.model.session import OnnxModel
    from eo_data.radiometry import Radiometry
    from eo_data.tiling import Pixels, ReadWindow, Source, Valid
    from eo_data.usecase import DataSection, UseCase
    from eo_serving.call import Call


@dataclass(frozen=True)
class MaskRows:
    """Finished rows of a mask.

    Attributes:
        mask: Class indexes `[rows, width]`, uint8, 255 without data.
        band: The probabilities that they come from.
    """

    mask: NDArray[np.uint8]
    band: RowBand

    @property
    def top(self) -> int:
        """Row where they begin."""
        return self.band.top

    @property
    def probability(self) -> Pixels:
        """`[classes, rows, width]`, float32, NaN without data."""
        return np.where(self.mask != IGNORE, self.band.probability, np.float32(np.nan))


@dataclass(frozen=True)
class Service:
    """A model version with everything that an answer needs.

    Attributes:
        model: The graph in memory.
        data: The use case's data section.
        serve: The use case's serve section.
        label: `<name>/<version>`.
        uri: `models:/<name>/<version>`.
        run: The MLflow run that made it.
        version: Its number.
    """

    model: OnnxModel
    data: DataSection
    serve: ServeSection
    label: str
    uri: str
    run: str
    version: int

    @property
    def digest(self) -> str:
        """The model digest."""
        return self.model.digest

    def identity(self, radiometry: Radiometry) -> dict[str, str]:
        """What every answer carries, in its headers and as TIFF tags: which model, and what the values meant."""
        return {
            "Terraloop-Model": self.label,
            "Terraloop-Run": self.run,
            "Terraloop-Digest": self.digest,
            "Terraloop-Radiometry": str(radiometry),
        }

    def rows(self, read: ReadWindow, shape: tuple[int, int], call: Call) -> Iterator[MaskRows]:
        """The mask of a raster, from top to bottom, as its rows become final.

        Raises:
            OutOfTime: If the call's time is over.
        """
        from eo_data.model.session import classify

        sample = call.sample
        if sample is not None:
            sample.begin(shape)

        def read_in_time(top: int, left: int, height: int, width: int) -> tuple[Pixels, Valid]:
            call.check()
            pixels, valid = read(top, left, height, width)
            if sample is not None:
                sample.take(pixels, valid)
            return pixels, valid

        def infer(tiles: Pixels) -> Pixels:
            call.check()
            with call.stage("infer"):
                return self.model(tiles)

        plan = self.model.description.tiling.plan()
        fetch = partial(_fetched, call=call, ahead=len(plan.starts(shape[0])) > 1)
        bands = predict_rows(read_in_time, shape, infer, plan, minibatch=self.serve.minibatch, fetch=fetch)
        while True:
            with call.stage("blend"):
                band = next(bands, None)
                if band is None:
                    return
                rows = MaskRows(classify(band.probability, band.valid), band)
                if sample is not None:
                    sample.add(rows.mask)
                if call.masks is not None:
                    call.masks.append(rows.mask)
            yield rows


def _fetched(sources: Iterator[Source], call: Call, ahead: bool) -> Iterator[Source]:
    """What is read, ahead of the model where there is more than one band; what is still waited for is decoding."""
    coming = one_ahead(sources) if ahead else sources
    while True:
        with call.stage("decode"):
            source = next(coming, None)
        if source is None:
            return
        yield source


def open_service(files: ModelFiles, usecase: UseCase) -> Service:
    """Load a verified version and test it on its golden chip.

    Raises:
        DataRefused: If it serves another use case's bands or classes, cannot be loaded, or fails its test.
    """
    from eo_data.model.session import OnnxModel

    description, data = files.description, usecase.data
    serve = usecase.section("serve", ServeSection)
    bands = tuple(band.name for band in data.input_bands)
    if description.input.bands != bands:
        raise DataRefused(
            f"the model reads {', '.join(description.input.bands)}; the use case's inputs are {', '.join(bands)}",
            where=files.uri,
            fix="Serve it with the use case that it was trained on, or train it again",
        )
    names = tuple(c.name for c in data.classes)
    if tuple(c.name for c in description.output.classes) != names:
        raise DataRefused(
            f"the model's classes are not the use case's ({', '.join(names)})", where=files.uri, fix="Train it again"
        )
    model = OnnxModel(files.graph, description, threads=serve.threads)
    try:
        model.self_test()
    except DataRefused:
        raise
    except Exception as error:  # ONNX Runtime's errors share no base class but Exception
        raise DataRefused("the model fails on its golden chip", where=files.uri, fix="Do not serve it") from error
    return Service(model, data, serve, files.label, files.uri, files.run, files.version)
