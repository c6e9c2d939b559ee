"""Pictures of sample predictions: scene, label, prediction, error."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord
from eo_data.quicklook import true_colour
from eo_data.tiling import Pixels, Valid
from eo_data.usecase import IGNORE, DataSection
from eo_models.confusion import TARGET, count
from eo_models.inputs import find_band

if TYPE_CHECKING:
    from matplotlib.patches import Patch

_COLOURS = {"right": (31, 111, 209), "missed": (240, 140, 20), "false": (200, 30, 60)}
_REST = 225


@dataclass(frozen=True)
class Sample:
    """What one row of the picture shows.

    Attributes:
        chip: Which.
        pixels: Reflectance x 10000 `[bands, H, W]`.
        valid: Where it has data.
        label: Class indexes, 255 not scored.
        mask: What the model says.
    """

    chip: ChipRecord
    pixels: Pixels
    valid: Valid
    label: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def choose_chips(chips: Sequence[ChipRecord], number: int) -> list[ChipRecord]:
    """A few chips worth a look: evenly over those that hold most of the target class and those that hold some."""
    held = sorted((chip for chip in chips if chip.class_counts[TARGET]), key=lambda chip: -chip.class_counts[TARGET])
    pool = held or list(chips)
    picked = np.linspace(0, len(pool) - 1, min(number, len(pool))).round().astype(int)
    return [pool[index] for index in picked]


def sample_figure(samples: Sequence[Sample], data: DataSection, title: str) -> bytes:
    """A PNG with a row per sample: the scene in true colour, its label, the prediction, and where they differ."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 2.4 * len(samples) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(samples), 4, squeeze=False)
    for row, sample in zip(axes, samples, strict=True):
        rgb = sample.pixels[_rgb(data)]
        pictures = (
            true_colour(rgb, sample.valid),
            _paint(sample.label, data),
            _paint(sample.mask, data),
            error_picture(sample.mask, sample.label),
        )
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        iou = count(sample.mask, sample.label).iou
        row[0].set_ylabel(f"{sample.chip.scene}\nIoU {'undefined' if iou is None else format(iou, '.2f')}", fontsize=9)
    names = ("true colour", "label", "prediction", "error")
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=8.5)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    figure.legend(handles=_legend(data), loc="outside lower center", ncols=9, fontsize=8.5, frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def error_picture(mask: NDArray[np.uint8], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`[H, W, 3]`: the target class found blue, missed orange, false red; the rest light grey, not scored white."""
    picture = np.full((*label.shape, 3), 255, dtype=np.uint8)
    scored = (label != IGNORE) & (mask != IGNORE)
    picture[scored] = _REST
    predicted, labelled = mask == TARGET, label == TARGET
    picture[scored & predicted & labelled] = _COLOURS["right"]
    picture[scored & ~predicted & labelled] = _COLOURS["missed"]
    picture[scored & predicted & ~labelled] = _COLOURS["false"]
    return picture


def _legend(data: DataSection) -> list[Patch]:
    """A patch per class, per error, and for what is not scored."""
    from matplotlib.patches import Patch

    target = data.classes[TARGET].name
    errors = {f"{target} found": "right", "missed": "missed", "false": "false"}
    return [
        *(Patch(facecolor=one.color, edgecolor="#8a8a8a", label=one.name) for one in data.classes),
        *(Patch(facecolor=_hexadecimal(_COLOURS[kind]), label=label) for label, kind in errors.items()),
        Patch(facecolor=_hexadecimal((_REST,) * 3), edgecolor="#8a8a8a", label="neither"),
        Patch(facecolor="white", edgecolor="#8a8a8a", label="no data or not scored"),
    ]


def _hexadecimal(colour: tuple[int, ...]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def _paint(classes: NDArray[np.uint8], data: DataSection) -> NDArray[np.uint8]:
    picture = np.full((*classes.shape, 3), 255, dtype=np.uint8)
    for index, definition in enumerate(data.classes):
        picture[classes == index] = [int(definition.color[k : k + 2], 16) for k in (1, 3, 5)]
    return picture


def _rgb(data: DataSection) -> list[int]:
    """Indexes of red, green and blue among the inputs; the first three where one is missing."""
    found = [find_band(data, name) for name in ("red", "green", "blue")]
    if None in found:
        return [min(k, len(data.inputs) - 1) for k in range(3)]
    return [index for index in found if index is not None]
