"""Pairs of image and label in a listing of files: by lists, else by patterns; the same for a folder and a bucket."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from eo_data.bands import band_key
from eo_data.digests import json_digest
from eo_data.errors import DataRefused
from eo_data.folder_pattern import FolderPattern
from eo_data.source_items import parse_item
from eo_data.sources.candidate import VALID_ID, Candidate, Fetched
from eo_data.sources.listing import Listing
from eo_data.sources.patterns import filled, matches
from eo_data.sources.scene_files import SceneFile, write_scene
from eo_data.usecase import DataSection

_FORMAT: Final = 1
"""Raised when the same files would be stored otherwise than before: then none counts as already there."""

_READERS: Final = 8
"""How many items are read at a time: over a network each takes a round trip."""


@dataclass(frozen=True)
class Pair:
    """What belongs together by its names.

    Attributes:
        id: The scene's id.
        where: Path or URI of its image for messages; with a file per band, the pattern.
        images: Band and name of each file; the band is None where the file holds the whole scene.
        label: Its label's name.
        source_split: The list that it stands in.
        fault: Why it cannot be taken.
    """

    id: str
    where: str
    images: tuple[tuple[str | None, str], ...] = ()
    label: str | None = None
    source_split: str | None = None
    fault: DataRefused | None = None

    @property
    def composed(self) -> bool:
        """Whether its GeoTIFF is made of other files."""
        return any(band is not None or not name.lower().endswith((".tif", ".tiff")) for band, name in self.images)

    @property
    def told(self) -> str:
        """Its image, and its list, for people."""
        name = PurePosixPath(self.where).name
        return f"{name} of {self.source_split}.csv" if self.source_split else self.where


class PairedSource:
    """Files of a listing as scenes and labels: pairs by the lists that the use case names, else by its patterns.

    A list is a CSV file with the columns `image` and `label` (label may be empty). A STAC item beside the
    pairs, `items/<id>.json`, adds what the files cannot say: time, platform, radiometry, place.

    Args:
        name: What the source is called.
        listing: Its files.
        data: The use case's data section.
    """

    def __init__(self, name: str, listing: Listing, data: DataSection) -> None:
        self.name = name
        self._listing = listing
        self._data = data
        self._pairs: dict[str, Pair] = {}

    def fits(self) -> bool:
        """Whether any of its files stands in a list or fits a pattern."""
        return any(True for _ in self._from_lists()) or any(True for _ in self._from_patterns())

    def candidates(self) -> list[Candidate]:
        """The pairs on offer, sorted by id; one that cannot be taken bears its fault, as does an id that stands twice.

        Raises:
            DataRefused: If nothing is found, naming what was looked for, or a list cannot be read.
        """
        found = list(self._from_lists()) or list(self._from_patterns())
        if not found:
            patterns = ", ".join(folder.image for folder in self._data.folders)
            raise DataRefused(
                f"no image is found (looked for {patterns})",
                where=self._listing.told(""),
                fix="Check --source or data.folders",
            )
        self._pairs = {}
        for pair in found:
            other = self._pairs.setdefault(pair.id, pair)
            if other is not pair:
                fault = DataRefused(
                    f"this id stands for {other.told} and for {pair.told}",
                    where=pair.id,
                    fix="Rename one of them, or list an image once",
                )
                self._pairs[pair.id] = replace(other, fault=fault)
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self._candidate, [self._pairs[id_] for id_ in sorted(self._pairs)]))

    def fetch(self, candidate: Candidate, folder: Path) -> Fetched:
        """A pair's files; a file per band, or a JP2, becomes one GeoTIFF in the workspace folder.

        Raises:
            DataRefused: If a file is not there or cannot be read.
            TemporaryFailure: If the source does not answer.
        """
        pair = self._pairs[candidate.id]
        label = None if pair.label is None else self._listing.fetch(pair.label, folder)
        files = [
            SceneFile(band, self._listing.fetch(name, folder), self._listing.told(name)) for band, name in pair.images
        ]
        if not pair.composed:
            return Fetched(files[0].path, label, candidate.item)
        image = folder / "composed.tif"
        write_scene(files, self._data, image, pair.where)
        return Fetched(image, label, candidate.item)

    def _from_lists(self) -> Iterator[Pair]:
        for name in self._data.split.lists:
            path = f"{name}.csv"
            if self._listing.entry(path) is None:
                continue
            told = self._listing.told(path)
            try:
                rows = _rows(self._listing.read(path), told)
            except (ValueError, csv.Error) as error:  # a UnicodeDecodeError is a ValueError
                raise DataRefused(f"the list cannot be read ({error})", where=told, fix="Save as UTF-8") from error
            for number, image, label in rows:
                yield self._listed_pair(name, f"{told}, line {number}", image, label)

    def _listed_pair(self, split: str, where: str, image: str, label: str) -> Pair:
        """The pair of a row; a row that names no image inside the source becomes a pair with a fault."""
        try:
            named = [self._listing.inside(text.strip(), where) if text.strip() else None for text in (image, label)]
            if named[0] is None:
                raise DataRefused("the row names no image", where=where, fix="Name one, or remove the row")
        except DataRefused as fault:
            return Pair(where.rpartition("/")[2], where, source_split=split, fault=fault)
        told = self._listing.told(named[0])
        return Pair(PurePosixPath(named[0]).stem, told, ((None, named[0]),), named[1], split)

    def _from_patterns(self) -> Iterator[Pair]:
        for folder in self._data.folders:
            found = list(matches(self._listing, folder.image))
            if not found:
                continue
            if "{band}" in folder.image:
                by_id: dict[str, list[tuple[str, str]]] = {}
                for scene_id, band, name in found:
                    by_id.setdefault(scene_id, []).append((str(band), name))
                yield from (self._banded_pair(folder, scene_id, files) for scene_id, files in by_id.items())
            else:
                for scene_id, _, name in found:
                    told = self._listing.told(name)
                    yield Pair(scene_id, told, ((None, name),), self._label(folder, scene_id))
            return

    def _label(self, folder: FolderPattern, scene_id: str) -> str | None:
        name = filled(folder.label, scene_id)
        return name if self._listing.entry(name) else None

    def _banded_pair(self, folder: FolderPattern, scene_id: str, files: list[tuple[str, str]]) -> Pair:
        """The scene of several files: those of known bands; a scene that lacks one the model reads is not whole."""
        where = self._listing.told(filled(folder.image, scene_id))
        chosen, missing = [], []
        for band in self._data.bands:
            hits = [(name, file) for name, file in files if band_key(name) in band.keys]
            chosen += hits
            if not hits and band in self._data.input_bands:
                missing.append(band.name)
        fault = None
        if missing:
            fault = DataRefused(
                f"no file of band {', '.join(missing)} (found: {', '.join(sorted({name for name, _ in files}))})",
                where=where,
                fix="Bring it, or correct data.folders",
            )
        return Pair(scene_id, where, tuple(chosen), self._label(folder, scene_id), fault=fault)

    def _candidate(self, pair: Pair) -> Candidate:
        fault, item = pair.fault, None
        name = f"items/{pair.id}.json"
        try:
            if fault is None and VALID_ID.fullmatch(pair.id) and self._listing.entry(name):
                item = parse_item(self._listing.read(name), self._listing.told(name), pair.id)
        except DataRefused as refusal:
            fault = refusal
        label = None if pair.label is None else self._listing.told(pair.label)
        collection = str((item or {}).get("collection") or self.name)
        print_ = None if fault else self._fingerprint(pair, collection, item)
        return Candidate(pair.id, collection, pair.where, label, item, pair.source_split, print_, fault)

    def _fingerprint(self, pair: Pair, collection: str, item: dict[str, Any] | None) -> str | None:
        """A digest of all that decides what is stored; None where a file is not there."""
        names = [*pair.images, *([("label", pair.label)] if pair.label else [])]
        facts = []
        for band, name in names:
            entry = self._listing.entry(name)
            if entry is None:
                return None
            facts.append([band, ascii(name), entry.size, entry.stamp])  # a name may be no UTF-8
        said = {
            "format": _FORMAT,
            "root": self._listing.uri,
            "source": [self.name, collection, pair.source_split],
            "files": facts,
            "item": item,
        }
        if pair.composed:
            said["data"] = self._data.model_dump(mode="json", include={"bands", "inputs", "grid", "reflectance"})
        return json_digest(said)


def _rows(content: bytes, where: str) -> list[tuple[int, str, str]]:
    """A list's rows: line, image, label."""
    stream = io.StringIO(content.decode("utf-8-sig"), newline="")  # spreadsheets begin with a byte order mark
    rows = csv.DictReader(stream, skipinitialspace=True)
    if not {"image", "label"} <= set(rows.fieldnames or ()):
        raise DataRefused("a list has the columns image and label", where=where, fix="Add a header row")
    return [(rows.line_num, row["image"] or "", row["label"] or "") for row in rows]
