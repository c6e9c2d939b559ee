"""What would poison a model is refused by `validate`, each for its own reason; what is only odd is warned of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.ingest import ingest
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_data.validate import Verdict, load_verdict, load_verdicts, validate

from .conftest import ROOT, S2_BANDS, water_scene, write_tiff

SIX = ("B02", "B03", "B04", "B08", "B11", "B12")
OFFSET: dict[str, Any] = {"raster:scale": 0.0001, "raster:offset": -0.1}


def scene(bands: tuple[str, ...] = S2_BANDS, added: int = 0) -> NDArray[np.uint16]:
    """A scene of water and land, its cirrus band near zero; `added` to every value."""
    pixels = water_scene(3)[0]
    pixels[10] = 10 + pixels[10] % 8
    return pixels[[S2_BANDS.index(name) for name in bands]] + np.uint16(added)


def filled(value: int, rows: int = 13, dtype: type[np.generic] = np.uint16) -> NDArray[np.generic]:
    """The scene with a tenth of its rows at one value in every band."""
    pixels = scene().astype(dtype)
    pixels[:, :rows] = value
    return pixels


@dataclass(frozen=True)
class Case:
    """A scene, what is written of it, and what is said."""

    pixels: Callable[[], NDArray[Any]]
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = S2_BANDS
    nodata: float | None = 0
    asset: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None
    label: Callable[[], NDArray[Any]] | None = None


def floats(value: float | None = None, rows: int = 1) -> NDArray[np.float32]:
    pixels = (scene() / 10000).astype(np.float32)
    if value is not None:
        pixels[3, :rows] = value
    return pixels


FLOATS: dict[str, Any] = {"raster:scale": 1, "raster:offset": 0}
FLOAT = ("data type is not the sensor's: dtype is 'float32', expected 'uint16' or 'int16'",)

CASES = {
    "good": Case(scene),
    "shuffled": Case(lambda: scene(S2_BANDS[::-1]), names=S2_BANDS[::-1]),
    "stated": Case(lambda: scene(added=1000), asset=OFFSET),
    "catalog_removed_it": Case(scene, asset=OFFSET, properties={"earthsearch:boa_offset_applied": True}),
    "offset_in_values": Case(lambda: scene(added=1000), warnings=("B10 shows an offset of -0.1, which was removed",)),
    "offset_unstated": Case(
        lambda: scene(SIX, added=1000),
        ("may carry the +1000 offset of newer processing baselines: state raster:offset or the processing baseline in "
         "items/offset_unstated.json: floor_unstated is",),
        names=SIX,
    ),
    "bright_ground": Case(
        lambda: scene(SIX, added=1000),
        warnings=("no dark pixel by scale=0.0001 offset=0 (stac): bright ground?",),
        names=SIX,
        asset={"raster:scale": 0.0001},
    ),
    "removed_twice": Case(
        lambda: scene(SIX),
        ("far below 0 by scale=0.0001 offset=-0.1 (stac): is the offset removed already? then state raster:offset 0",),
        names=SIX,
        asset=OFFSET,
    ),
    "wrong_baseline": Case(
        lambda: scene(added=1000),
        ("B10, near 0 over clear pixels, contradicts scale=0.0001 offset=0 (stac-baseline)",),
        warnings=("no dark pixel",),
        properties={"s2:processing_baseline": "02.09"},
    ),
    "thick_cloud": Case(
        lambda: scene(added=4000), ("B10, near 0 over clear pixels, contradicts",), warnings=("no dark pixel",)
    ),
    "fractions": Case(
        floats, (*FLOAT, "reflectance 0..1 read as sensor values? state raster:scale (1) in items/fractions.json")
    ),
    "nan": Case(lambda: floats(np.nan, 128), (*FLOAT, "too few pixels with data"), asset=FLOATS),
    "empty": Case(lambda: filled(0, 128), ("too few pixels with data: invalid_fraction is 1.0",)),
    "fill_zero": Case(lambda: filled(0), ("0 in every band of a pixel is a fill value",), nodata=65535),
    "fill_high": Case(
        lambda: filled(65535), ("65535 in every band of a pixel is a fill value", "no reflectance of this sensor")
    ),
    "fill_negative": Case(
        lambda: filled(-9999, dtype=np.int16),
        ("-9999 in every band of a pixel is a fill value", "no reflectance of this", "far below 0", "B10, near 0"),
        nodata=-32768,
    ),
    "small": Case(
        lambda: scene()[:, :100, :100], ("height is 100, expected 128 to 20000", "width is 100"),
        label=lambda: water_scene(3)[1][:100, :100],
    ),
    "rgb": Case(
        lambda: (scene(("B04", "B03", "B02")) // 20).astype(np.uint8), ("dtype is 'uint8'", "3 bands without"), names=()
    ),
    "too_many": Case(lambda: scene((*SIX, "B01")), ("7 bands without descriptions, but 13 or 6 are needed",), names=()),
    "a_band_short": Case(lambda: scene(SIX[:5]), ("band B12 is missing",), names=SIX[:5]),
    "odd_label": Case(
        scene, ("label cannot be used: label_fault is 'label values 7 stand for no class'",),
        label=lambda: np.where(water_scene(3)[1] == 1, 7, 0).astype(np.uint8),
    ),
    "no_label_pixel": Case(
        scene, ("label has hardly a scored pixel",), label=lambda: np.full((128, 128), 255, np.uint8)
    ),
    "unseen": Case(
        lambda: filled(0, 70), ("the image has hardly data where the label is scored",),
        warnings=("scored label pixels without image data",),
        label=lambda: np.repeat(np.where(np.arange(128) < 71, 1, 255).astype(np.uint8)[:, None], 128, axis=1),
    ),
    "half_seen": Case(
        lambda: filled(0, 64), warnings=("scored label pixels without image data: label_unseen_fraction is 0.5",)
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """All cases, ingested and judged together."""
    root = tmp_path_factory.mktemp("refusals")
    store = Store(str(root / "store"))
    usecase = UseCase.load(str(ROOT / "usecases" / "water"))
    for number, (name, case) in enumerate(CASES.items()):
        origin = (300_000.0 + 20_000 * number, 4_200_000.0)
        pixels = case.pixels()
        write_tiff(
            root / "source" / "images" / f"{name}.tif", pixels, names=case.names, nodata=case.nodata, origin=origin
        )
        label = water_scene(3)[1] if case.label is None else case.label()
        write_tiff(root / "source" / "labels" / f"{name}.tif", label[None], origin=origin)
        if case.asset is not None or case.properties is not None:
            item = {"id": name, "properties": case.properties or {}, "assets": {"image": case.asset or {}}}
            path = root / "source" / "items" / f"{name}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(item))
    batch = ingest(store, usecase, str(root / "source"), progress=False)
    assert batch["scenes"]["refused"] == {}
    result = validate(store, usecase, batch=batch["batch"], progress=False)
    found = {id_: load_verdict(store, key) for id_, key in load_verdicts(store, result["verdicts"]).verdicts.items()}
    assert result["quarantined"].keys() == {name for name, case in CASES.items() if case.reasons}
    assert result["warnings"].keys() == {name for name, case in CASES.items() if case.warnings}
    assert b"offset_unstated" in b"".join(store.get(key) for key in store.list("validation/docs") if ".html" in key)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_scene_is_judged_for_what_is_wrong_with_it_and_nothing_else(name: str, verdicts: dict[str, Verdict]) -> None:
    case, verdict = CASES[name], verdicts[name]
    assert verdict.accepted is not bool(case.reasons)
    for wanted, told in ((case.reasons, verdict.reasons), (case.warnings, verdict.warnings)):
        for text in wanted:
            assert any(text in line for line in told), (text, told)
        for line in told:
            assert any(text in line for text in wanted), (wanted, line)


def test_the_same_ground_has_the_same_quantiles_however_its_radiometry_was_found(verdicts: dict[str, Verdict]) -> None:
    def quantiles(name: str) -> list[Any]:
        return [
            value for column, value in sorted(verdicts[name].features.items()) if column[:4] in {"q02_", "q50_", "q98_"}
        ]

    for name in ("shuffled", "stated", "catalog_removed_it", "offset_in_values"):
        assert quantiles(name) == quantiles("good"), name
    assert verdicts["offset_in_values"].features["radiometry"] == "scale=0.0001 offset=-0.1 (values)"
    assert verdicts["good"].features["radiometry_source"] == "usecase"


def test_every_expectation_stands_in_the_verdict_with_what_was_observed(verdicts: dict[str, Verdict]) -> None:
    for verdict in verdicts.values():
        assert all(line["observed"] == verdict.features[line["column"]] for line in verdict.expectations)
        failed = [line["severity"] for line in verdict.expectations if not line["success"]]
        assert failed.count("critical") == len(verdict.reasons)
        assert failed.count("warning") == len(verdict.warnings)
