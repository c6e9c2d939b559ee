"""Behavioural tests of a candidate: what must hold of any mask, whatever its IoU. Through the tile plan that serves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord, Dataset
from eo_data.model.session import classify
from eo_data.tiling import Pixels, Valid
from eo_data.usecase import IGNORE, DataSection
from eo_models.confusion import TARGET
from eo_models.contestants import Contestant
from eo_models.evaluation_record import Check
from eo_models.made_up_scenes import mosaic, uniform_scene

CLOSE_CALL: Final = 1e-3
"""Pixels whose two most probable classes are nearer than this may turn by rounding, and are not counted."""

AGREEMENT: Final = 0.95
"""Least share of pixels that keep their class when the scene is turned or mirrored."""

FALSE_TARGET: Final = 0.05
"""Greatest share of a scene of cloud or snow alone that may be called the target class."""

COLLAR: Final = "nodata collar"
OFFSET: Final = "tile offset"
TURNS: Final = "flips and rotations"
ON_REAL_PIXELS: Final = (COLLAR, OFFSET, TURNS)

Number = TypeVar("Number", bound=np.generic)

_LARGEST: Final = 1024
_TURNED: Final = 256
_SYNTHETIC: Final = 192


def behaviour(
    candidate: Contestant, dataset: Dataset, data: DataSection, seen: Set[str] = frozenset()
) -> tuple[Check, ...]:
    """All behavioural tests of a candidate.

    Args:
        candidate: Whom.
        dataset: Its holdout lends the real pixels, since a gate may ask for these tests; labels play no part.
        data: Bands and classes.
        seen: Cells whose pixels do not count: a model was trained on them.
    """
    name = data.classes[TARGET].name
    chips = [chip for chip in dataset.chips("holdout") if chip.cell not in seen]
    return (
        *(_on_real_pixels(candidate, dataset, chips) if chips else map(_unasked, ON_REAL_PIXELS)),
        _uniform("cloud", candidate, data, name),
        _uniform("snow", candidate, data, name),
        _constants(candidate, data),
    )


def _on_real_pixels(candidate: Contestant, dataset: Dataset, chips: Sequence[ChipRecord]) -> tuple[Check, ...]:
    plan = candidate.description.tiling.plan()
    side = min(_LARGEST, max(2 * plan.step, 4 * plan.halo, dataset.manifest.chip_size))
    pixels, valid = mosaic(dataset, chips, side)
    reference = _Prediction(candidate, pixels, valid)
    return (
        _collar(candidate, pixels, valid, reference),
        _offset(candidate, pixels, valid, reference),
        _turns(candidate, pixels[:, :_TURNED, :_TURNED], valid[:_TURNED, :_TURNED]),
    )


def _unasked(name: str) -> Check:
    detail = "no holdout chip lies outside the cells that a model was trained on"
    return Check(name=name, passed=None, value=None, limit="not asked", detail=detail, simulated=False)


class _Prediction:
    """A mask, and which of its pixels are no close call."""

    def __init__(self, candidate: Contestant, pixels: Pixels, valid: Valid) -> None:
        probability = candidate.probability(pixels, valid)
        self.mask = classify(probability, valid)
        ranked = np.sort(probability, axis=0)
        self.clear: Valid = ranked[-1] - ranked[-2] >= CLOSE_CALL


def _collar(candidate: Contestant, pixels: Pixels, valid: Valid, reference: _Prediction) -> Check:
    """The scene within a frame without data: beyond the context that the model sees, nothing may change."""
    reach = candidate.description.tiling.halo
    step = _shift(candidate)
    width = max(1, math.ceil(reach / step)) * step
    framed_valid = np.pad(valid, width)
    framed = _Prediction(candidate, np.pad(pixels, ((0, 0), (width, width), (width, width))), framed_valid)
    inner = np.s_[width:-width, width:-width]
    changed, compared = _changed(reference, framed.mask[inner], np.s_[:, :], reach)
    outside = framed.mask.copy()
    outside[inner] = IGNORE
    leaked = int((outside != IGNORE).sum())
    return Check(
        name=COLLAR,
        passed=None if not compared else not changed and not leaked,
        value=float(changed) if compared else None,
        limit="0 pixels",
        detail=f"a frame of {width} pixels without data: of {compared} pixels more than {reach} inside, {changed} "
        f"change class; {leaked} of the frame get one",
        simulated=False,
    )


def _offset(candidate: Contestant, pixels: Pixels, valid: Valid, reference: _Prediction) -> Check:
    """The scene without its first rows and columns, so that tiles begin elsewhere."""
    reach, shift = candidate.description.tiling.halo, _shift(candidate)

    def share(by: int) -> tuple[int, int]:
        cut = np.s_[by:, by:]
        mask = candidate.mask(pixels[:, by:, by:], valid[cut])
        return _changed(reference, mask, cut, reach)

    changed, compared = share(shift)
    odd, compared_odd = share(1)
    return Check(
        name=OFFSET,
        passed=None if not compared else not changed,
        value=float(changed) if compared else None,
        limit="0 pixels",
        detail=f"tiles {shift} pixels further: of {compared} pixels more than {reach} inside, {changed} change class "
        f"(1 pixel further, off the network's own grid: {_percent(odd, compared_odd)})",
        simulated=False,
    )


def _turns(candidate: Contestant, pixels: Pixels, valid: Valid) -> Check:
    """The seven other positions of a square."""
    shares, upright = [], candidate.mask(pixels, valid)
    for turns, mirrored in list(_positions())[1:]:
        mask = candidate.mask(_turn(pixels, turns, mirrored), _turn(valid, turns, mirrored))
        back = np.rot90(mask[:, ::-1] if mirrored else mask, -turns)
        shares.append(float((back == upright)[valid].mean()) if valid.any() else math.nan)
    known = [share for share in shares if math.isfinite(share)]
    least = min(known, default=None)
    return Check(
        name=TURNS,
        passed=None if least is None else least >= AGREEMENT,
        value=None if least is None else round(least, 6),
        limit=f"at least {AGREEMENT:.0%} of the pixels",
        detail="share of pixels that keep their class in the worst of seven positions"
        + (f"; {np.mean(known):.2%} on average" if known else ""),
        simulated=False,
    )


def _uniform(kind: str, candidate: Contestant, data: DataSection, name: str) -> Check:
    """A simulated scene of nothing but cloud, or snow."""
    scene = uniform_scene(kind, data, _SYNTHETIC)
    share = None
    if scene is not None:
        share = float((candidate.mask(scene, np.ones(scene.shape[1:], dtype=bool)) == TARGET).mean())
    return Check(
        name=f"all {kind}",
        passed=None if share is None else share <= FALSE_TARGET,
        value=None if share is None else round(share, 6),
        limit=f"at most {FALSE_TARGET:.0%} {name}",
        detail=f"share called {name}" if share is not None else "the simulator does not know one of the bands",
        simulated=True,
    )


def _constants(candidate: Contestant, data: DataSection) -> Check:
    """Scenes of one number, absurd ones too, and one without data: each gets an answer."""
    shape = (len(data.inputs), 37, 53)
    everywhere = np.ones(shape[1:], dtype=bool)
    faults, unknown = [], []
    for value in (None, 0, 1, 3000, 10_000, 32_767, -32_768):
        name = "no data" if value is None else str(value)
        scene = np.full(shape, value or 0, dtype=np.float32)
        try:
            mask = candidate.mask(scene, everywhere if value is not None else ~everywhere)
        except Exception as error:  # whatever a graph raises is what this test is about
            faults.append(f"{name}: {type(error).__name__}")
            continue
        if value is not None and (mask == IGNORE).any():
            unknown.append(name)
        if value is None and (mask != IGNORE).any():
            faults.append(f"{name}: gets a class")
    return Check(
        name="constant scenes",
        passed=not faults,
        value=float(len(faults)),
        limit="0 failures",
        detail="; ".join(faults or ["every one is answered, the one without data by nodata"])
        + (f"; no class where every value is {', '.join(unknown)}" if unknown else ""),
        simulated=True,
    )


def _shift(candidate: Contestant) -> int:
    """By how much tiles are moved: off the tile plan's own period, on the coarse grid of a network that halves."""
    step = candidate.description.tiling.plan().step
    return next((shift for shift in (32, 8) if shift % step), 1)


def _changed(reference: _Prediction, mask: NDArray[np.uint8], cut: tuple[slice, slice], reach: int) -> tuple[int, int]:
    """How many pixels changed class, and of how many: those more than `reach` inside that were no close call."""
    inside = np.zeros(mask.shape, dtype=bool)
    inside[reach : mask.shape[0] - reach, reach : mask.shape[1] - reach] = True
    inside &= reference.clear[cut]
    return int((mask != reference.mask[cut])[inside].sum()), int(inside.sum())


def _positions() -> Iterator[tuple[int, bool]]:
    """The eight positions of a square as (quarter turns, mirrored); the first is as it was."""
    return ((turns, mirrored) for mirrored in (False, True) for turns in range(4))


def _turn(pixels: NDArray[Number], turns: int, mirrored: bool) -> NDArray[Number]:
    """Rows and columns, the last two axes, turned by quarters and then mirrored."""
    turned = np.rot90(pixels, turns, axes=(-2, -1))
    return turned[..., ::-1] if mirrored else turned


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.3%}" if whole else "undefined"
