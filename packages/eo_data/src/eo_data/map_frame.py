"""Drawing maps with pillow: a picture of shapes and words, and a frame that knows where a longitude lies in it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.cells import POLAR, POLAR_FROM

INK: Final = "#1f2933"
PALE: Final = "#5f6b7a"
_PAPER: Final = "#ffffff"
_SEA: Final = "#f3f5f8"
_LINE: Final = "#d3d9e0"
_FINER: Final = 2  # drawn at twice the size and made smaller: smooth edges
_STEPS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0)

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture, pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top


class Picture:
    """A white picture to draw on; positions and sizes are pixels of the finished picture."""

    def __init__(self, width: float, height: float) -> None:
        from PIL import Image, ImageDraw

        self._size = (round(width), round(height))
        self._image = Image.new("RGB", (self._size[0] * _FINER, self._size[1] * _FINER), _PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def text(self, at: tuple[float, float], words: str, size: int, *, color: str = INK, anchor: str = "la") -> float:
        """Write words; their width."""
        font = _font(size)
        self._draw.text((at[0] * _FINER, at[1] * _FINER), words, fill=color, font=font, anchor=anchor)
        return float(font.getlength(words)) / _FINER

    def rectangle(self, box: tuple[float, float, float, float], color: str, outline: str | None = None) -> None:
        """Fill a rectangle of left, top, right and bottom."""
        scaled = [value * _FINER for value in box]
        self._draw.rectangle(scaled, fill=color, outline=outline, width=_FINER)

    def polygon(self, corners: Points, color: str) -> None:
        """Fill a polygon `[n, 2]`, with a fine white border where there is room for one."""
        roomy = np.ptp(corners, axis=0).min() > 6
        points = [(float(x), float(y)) for x, y in corners * _FINER]
        self._draw.polygon(points, fill=color, outline=_PAPER if roomy else color, width=_FINER)

    def pie(self, at: Points, radius: float, shares: dict[str, int]) -> None:
        """Fill a circle, a slice per colour in proportion to its share, with a white border."""
        (x, y), reach = at * _FINER, radius * _FINER
        box = (x - reach, y - reach, x + reach, y + reach)
        total, start = sum(shares.values()), -90.0
        for color, share in shares.items():
            stop = start + 360 * share / total
            self._draw.pieslice(box, start, stop, fill=color)
            start = stop
        self._draw.ellipse(box, outline=_PAPER, width=_FINER)

    def line(self, points: Points, color: str) -> None:
        """Draw a line through points `[n, 2]`."""
        self._draw.line([(float(x), float(y)) for x, y in points * _FINER], fill=color, width=_FINER)

    def png(self) -> bytes:
        """The picture as a PNG."""
        stream = io.BytesIO()
        self._image.reduce(_FINER).save(stream, format="PNG", optimize=True)
        return stream.getvalue()


class MapFrame:
    """A map's window: longitudes and latitudes of an area, fitted into a box.

    Near a pole it is a polar map; else degrees of longitude are shortened by the cosine of the latitude in the
    middle. Longitudes are counted from the middle of the area, which may lie across the 180th meridian.

    Attributes:
        box: Where in the picture it lies.
    """

    def __init__(self, box: Box, corners: Points) -> None:
        longitude, latitude = corners.reshape(-1, 2).T
        self._middle = _middle(longitude)
        self._polar = _polar_grid(longitude, latitude)
        self._shorten = max(0.2, float(np.cos(np.radians((latitude.min() + latitude.max()) / 2))))
        x, y = self._flat(longitude, latitude)
        # A tenth of room around; never closer than a hundredth of a degree, which shows some ground.
        least = 1500.0 if self._polar else 0.012
        width, height = (max(float(np.ptp(values)), least) * 1.12 for values in (x, y))
        self._scale = min(box.width / width, box.height / height)
        bottom = box.top + min(box.height, max(height * self._scale, 0.45 * box.width))
        self.box = Box(box.left, box.top, box.right, bottom)
        self._centre = ((x.min() + x.max()) / 2, (y.min() + y.max()) / 2)

    @classmethod
    def around(cls, corners: Points, box: Box) -> MapFrame:
        """The frame around footprints `[n, 4, 2]`; of nothing, a frame around 0, 0."""
        return cls(box, corners if len(corners) else np.zeros((1, 4, 2)))

    def place(self, points: Points) -> Points:
        """Longitudes and latitudes `[n, 2]` as pixels of the picture."""
        x, y = self._flat(points[:, 0], points[:, 1])
        middle = (self.box.left + self.box.right) / 2, (self.box.top + self.box.bottom) / 2
        return np.stack(
            [middle[0] + (x - self._centre[0]) * self._scale, middle[1] - (y - self._centre[1]) * self._scale], axis=1
        )

    def draw_background(self, picture: Picture) -> None:
        """The ground and the graticule, with degrees."""
        box = self.box
        picture.rectangle((box.left, box.top, box.right, box.bottom), _SEA)
        west, east, south, north = self._bounds()
        step_x, step_y = (360 / 12 if self._polar else _nice(east - west, 9)), _nice(north - south, 6)
        for longitude in np.arange(np.ceil(west / step_x), np.floor(east / step_x) + 1) * step_x:
            if self._polar and longitude == west:
                continue  # it is the easternmost
            along = np.linspace(south, north, 256)
            points = self.place(np.stack([np.full_like(along, longitude), along], axis=1))
            self._rule(picture, points, _degrees(longitude, "E", "W", step_x), vertical=True)
        for latitude in np.arange(np.ceil(south / step_y), np.floor(north / step_y) + 1) * step_y:
            along = np.linspace(west, east, 256)
            points = self.place(np.stack([along, np.full_like(along, latitude)], axis=1))
            self._rule(picture, points, _degrees(latitude, "N", "S", step_y), vertical=False)

    def draw_border(self, picture: Picture) -> None:
        """The frame's line."""
        box = self.box
        corners = [(box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom)]
        picture.line(np.array([*corners, corners[0]]), PALE)

    def _rule(self, picture: Picture, points: Points, name: str, *, vertical: bool) -> None:
        """Draw the pieces of a line that lie inside the frame, and its degrees once."""
        box, (x, y) = self.box, points.T
        inside = (x >= box.left - 1) & (x <= box.right + 1) & (y >= box.top - 1) & (y <= box.bottom + 1)
        ends = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(int), [0]])))
        pieces = [points[start:stop] for start, stop in zip(ends[::2], ends[1::2], strict=True) if stop - start > 1]
        if not pieces:
            return
        for piece in pieces:
            picture.line(piece, _LINE)
        longest = max(pieces, key=len)
        if self._polar:
            at = longest[len(longest) // (2 if vertical else 3)]
            picture.text((float(at[0]), float(at[1])), name, 16, color=PALE, anchor="mm")
        elif vertical:
            picture.text((float(longest[:, 0].mean()), box.bottom + 10), name, 18, color=PALE, anchor="ma")
        else:
            picture.text((box.left - 10, float(longest[:, 1].mean())), name, 18, color=PALE, anchor="rm")

    def _bounds(self) -> tuple[float, float, float, float]:
        """West, east, south and north of the frame; of a polar map all longitudes, down to its corners."""
        half_x, half_y = self.box.width / 2 / self._scale, self.box.height / 2 / self._scale
        if self._polar:
            reach = np.hypot(abs(self._centre[0]) + half_x, abs(self._centre[1]) + half_y)
            away = np.degrees(2 * np.arcsin(min(1.0, reach / 2 / 6_371_007)))
            edge = max(0.0, 90.0 - float(away))
            return (-180.0, 180.0, edge, 90.0) if self._polar == "north" else (-180.0, 180.0, -90.0, -edge)
        x, y = self._centre
        west, east = ((x + sign * half_x) / self._shorten + self._middle for sign in (-1, 1))
        return max(west, self._middle - 180), min(east, self._middle + 180), max(y - half_y, -90), min(y + half_y, 90)

    def _flat(self, longitude: Points, latitude: Points) -> tuple[Points, Points]:
        if self._polar:
            x, y = _to_polar(self._polar).transform(longitude, latitude)
            return np.asarray(x), np.asarray(y)
        return ((longitude - self._middle + 180) % 360 - 180) * self._shorten, latitude


def _polar_grid(longitude: Points, latitude: Points) -> str | None:
    """The polar grid to draw on, where all lies near a pole and meridians would lean too much."""
    leans = np.ptp((longitude - _middle(longitude) + 180) % 360) > 40 or np.abs(latitude).max() > 85
    if leans and latitude.min() > POLAR_FROM:
        return "north"
    return "south" if leans and latitude.max() < -POLAR_FROM else None


def _middle(longitude: Points) -> float:
    """The longitude opposite to the middle of the widest gap: what lies at 179 and -179 degrees stays together."""
    ordered = np.sort(longitude % 360)
    gaps = np.diff(np.append(ordered, ordered[0] + 360))
    widest = int(np.argmax(gaps))
    if gaps[widest] < 60:  # all round the world: the usual map
        return 0.0
    middle = ordered[widest] + gaps[widest] / 2 + 180
    return float((middle + 180) % 360 - 180)


def _nice(length: float, most: int) -> float:
    """A round step that divides a length into at most so many pieces."""
    return next((step for step in _STEPS if length / step <= most), _STEPS[-1])


def _degrees(value: float, positive: str, negative: str, step: float) -> str:
    value = (value + 180) % 360 - 180 if positive == "E" else value
    digits = max(0, -int(np.floor(np.log10(step)))) if step < 1 else 0
    rounded = round(abs(float(value)), digits)
    side = "" if rounded == 0 or (rounded == 180 and positive == "E") else positive if value > 0 else negative
    return f"{rounded:.{digits}f}°{side}"


@lru_cache(maxsize=16)
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size * _FINER)


@lru_cache(maxsize=2)
def _to_polar(which: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs("EPSG:4326", POLAR[which], always_xy=True)
