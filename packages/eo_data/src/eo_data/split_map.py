"""The map of a dataset's splits: every chip's footprint in the colour of its side, as a picture for its card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from eo_data.cells import project
from eo_data.dataset import Manifest
from eo_data.map_frame import INK, PALE, Box, MapFrame, Picture
from eo_data.usecase import SPLITS, Split

COLORS: Final[dict[Split, str]] = {
    "train": "#0072b2",
    "validation": "#e69f00",
    "holdout": "#009e73",
    "test": "#d55e00",
}
"""Okabe and Ito's colours, which colour-blind people tell apart as well."""

LEFT_OUT: Final = "#b4bac2"

_WIDTH: Final = 1600
_MAP_HEIGHT: Final = 860
_MARGIN: Final = 90
_HEADER: Final = 150
_SMALL: Final = 7.0  # pixels: a chip that is smaller is drawn as a dot
_CLOSE_UPS: Final = 5


@dataclass(frozen=True)
class Footprints:
    """Where chips lie.

    Attributes:
        corners: Longitude and latitude of each chip's corners, `[n, 4, 2]`, degrees; chips without CRS have none.
        colors: Of each of these.
        scene: Id of the scene of each of these.
        rows: Top and left of each of these, in chips.
    """

    corners: NDArray[np.float64]
    colors: tuple[str, ...]
    scene: tuple[str, ...]
    rows: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        grids: Mapping[str, GeoBox],
        left_out: Mapping[str, Sequence[tuple[int, int, str]]],
    ) -> Footprints:
        """The footprints of a dataset's chips and of the places that gave none.

        Args:
            manifest: The dataset's.
            grids: The grid of each scene with a CRS.
            left_out: Top, left and reason of what each scene did not give.
        """
        size = manifest.chip_size
        found: dict[str, list[tuple[int, int, str]]] = {id_: [] for id_ in grids}
        for id_ in grids:  # beneath the chips
            found[id_] += [(top, left, LEFT_OUT) for top, left, _ in left_out.get(id_, ())]
        for chip in manifest.chips:
            if chip.scene in grids:
                found[chip.scene].append((chip.top, chip.left, COLORS[chip.split]))
        corners: list[NDArray[np.float64]] = [np.empty((0, 4, 2))]
        for id_, places in found.items():
            if places:
                height, width = grids[id_].shape
                tops, lefts = np.array([place[:2] for place in places]).T
                bottoms, rights = np.minimum(tops + size, height), np.minimum(lefts + size, width)
                columns = np.stack([lefts, rights, rights, lefts], axis=1)
                rows = np.stack([tops, tops, bottoms, bottoms], axis=1)
                corners.append(np.stack(project(grids[id_], columns.ravel(), rows.ravel()), -1).reshape(-1, 4, 2))
        flat = [(id_, *place) for id_, places in found.items() for place in places]
        return cls(
            np.concatenate(corners),
            tuple(color for *_, color in flat),
            tuple(id_ for id_, *_ in flat),
            tuple((top // size, left // size) for _, top, left, _ in flat),
        )

    def by_scene(self) -> dict[str, list[int]]:
        """The numbers of each scene's footprints."""
        numbers: dict[str, list[int]] = {}
        for number, id_ in enumerate(self.scene):
            numbers.setdefault(id_, []).append(number)
        return numbers


def split_map(manifest: Manifest, footprints: Footprints) -> bytes:
    """A PNG: the map with a graticule and a legend, close-ups where chips are too small to see, lists without CRS."""
    bars = _list_bars(manifest)
    mapped = len(footprints.colors) > 0
    frame = MapFrame.around(footprints.corners, Box(_MARGIN + 20, _HEADER, _WIDTH - _MARGIN, _HEADER + _MAP_HEIGHT))
    places = frame.place(footprints.corners.reshape(-1, 2)).reshape(-1, 4, 2)
    small = mapped and float(np.median(np.ptp(places, axis=1).max(axis=-1))) < _SMALL
    scenes = _worth_a_close_up(footprints) if small else []
    height = float(_HEADER + 20)
    map_bottom = height = height + (frame.box.height + 60 if mapped else 0)
    height += 330 if scenes else 0
    bars_top = height
    height += 50 * len(bars) + 40 if bars else 0
    picture = Picture(_WIDTH, height)
    _header(picture, manifest)
    if mapped:
        _draw_map(picture, frame, places, footprints, small=small)
    if scenes:
        _draw_close_ups(picture, footprints, scenes, map_bottom)
    if bars:
        _draw_bars(picture, bars, bars_top)
    return picture.png()


def _header(picture: Picture, manifest: Manifest) -> None:
    counts = Counter(chip.split for chip in manifest.chips)
    number, scenes = len(manifest.chips), len(manifest.scenes)
    picture.text((_MARGIN, 28), f"Splits of dataset {manifest.digest[:12]}", 34)
    said = f"{number:,} chips of {manifest.chip_size} pixels from {scenes:,} scene{'s' * (scenes != 1)}"
    if all(scene.simulated for scene in manifest.scenes):
        said += ", simulated"
    picture.text((_WIDTH - _MARGIN, 38), said, 22, color=PALE, anchor="ra")
    x = float(_MARGIN)
    entries: list[tuple[str, str]] = [(COLORS[split], f"{split}  {counts[split]:,}") for split in SPLITS]
    left_out = sum(manifest.dropped.values())
    if left_out:
        entries.append((LEFT_OUT, f"left out  {left_out:,}"))
    for color, name in entries:
        picture.rectangle((x, 96, x + 24, 120), color)
        x += 34
        x += picture.text((x, 96), name, 22) + 44


def _draw_map(picture: Picture, frame: MapFrame, places: NDArray[Any], footprints: Footprints, *, small: bool) -> None:
    """The chips; where they are too small to see, a dot per scene in the colours of its chips."""
    frame.draw_background(picture)
    if small:
        for numbers in footprints.by_scene().values():
            colors = Counter(footprints.colors[k] for k in numbers if footprints.colors[k] != LEFT_OUT)
            shares = {color: colors[color] for color in COLORS.values() if colors[color]} or {LEFT_OUT: 1}
            picture.pie(places[numbers].mean(axis=(0, 1)), 9.0 if len(shares) > 1 else 6.5, shares)
    else:
        for corners, color in zip(places, footprints.colors, strict=True):
            picture.polygon(corners, color)
    frame.draw_border(picture)


def _worth_a_close_up(footprints: Footprints) -> list[list[int]]:
    """Numbers of the footprints of scenes with many, those on most sides first."""

    def sides(numbers: list[int]) -> int:
        return len({footprints.colors[k] for k in numbers} - {LEFT_OUT})

    many = [numbers for numbers in footprints.by_scene().values() if len(numbers) >= 4]
    return sorted(many, key=lambda numbers: (-sides(numbers), -len(numbers)))[:_CLOSE_UPS]


def _draw_close_ups(picture: Picture, footprints: Footprints, scenes: Sequence[list[int]], top: float) -> None:
    step, side = (_WIDTH - 2 * _MARGIN) / _CLOSE_UPS, 240.0
    for number, chosen in enumerate(scenes):
        left, id_ = _MARGIN + number * step, footprints.scene[chosen[0]]
        cell = side / (max(max(footprints.rows[k]) for k in chosen) + 1)
        gap = min(2.0, cell / 8)
        for k in chosen:
            row, column = footprints.rows[k]
            x, y = left + column * cell, top + row * cell
            picture.rectangle((x, y, x + cell - gap, y + cell - gap), footprints.colors[k])
        name = id_ if len(id_) <= 26 else f"{id_[:12]}…{id_[-12:]}"
        picture.text((left, top + side + 10), name, 18, color=PALE)


def _list_bars(manifest: Manifest) -> list[tuple[str, Counter[str]]]:
    """Chips per side of each list, or place, of scenes without a CRS."""
    named = {scene.id: scene.source_split or "by place" for scene in manifest.scenes}
    bars: dict[str, Counter[str]] = {}
    for chip in manifest.chips:
        if chip.longitude is None:
            bars.setdefault(named[chip.scene], Counter())[chip.split] += 1
    return sorted(bars.items())


def _draw_bars(picture: Picture, bars: Sequence[tuple[str, Counter[str]]], top: float) -> None:
    most = max(found.total() for _, found in bars)
    left, right = _MARGIN + 220, _WIDTH - _MARGIN - 110
    for number, (name, found) in enumerate(bars):
        y, x = top + 50 * number, float(left)
        shown = name if len(name) <= 20 else f"{name[:19]}…"
        picture.text((left - 20, y + 17), shown, 22, anchor="rm", color=INK)
        for split in SPLITS:
            length = (right - left) * found[split] / most
            if length:
                picture.rectangle((x, y, x + length, y + 34), COLORS[split])
            x += length
        picture.text((x + 12, y + 17), f"{found.total():,} chips", 18, color=PALE, anchor="lm")
