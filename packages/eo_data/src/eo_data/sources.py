"""Sources: where scenes come from. Each gives candidates; `ingest` judges and stores them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eo_data.errors import DataRefused, UsageError
from eo_data.store import local_path
from eo_data.usecase import DataSection

VALID_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
"""Ids become folders of the store: no separators, no traversal."""


@dataclass(frozen=True)
class Candidate:
    """A scene that a source offers.

    Attributes:
        id: Its STAC id.
        collection: Its STAC collection.
        image: Path of its GeoTIFF.
        label: Path of its label; None where there is none.
        item: Its STAC item as the source gave it; None where it gave none.
        source_split: Name of the source's list that it stands in.
    """

    id: str
    collection: str
    image: Path
    label: Path | None = None
    item: dict[str, Any] | None = None
    source_split: str | None = None


class Source(Protocol):
    """Anything that offers scenes."""

    name: str

    def candidates(self) -> list[Candidate]:
        """The scenes on offer, sorted by id."""
        ...


class FolderSource:
    """A folder of GeoTIFFs: pairs by the lists that the use case names, else by its patterns.

    A list is a CSV file with the columns `image` and `label` (label may be empty). A STAC item beside the
    pairs, `items/<id>.json`, adds what the file cannot say: time, platform, radiometry, place.

    Args:
        uri: The folder.
        data: The use case's data section.

    Raises:
        UsageError: If there is no such folder.
    """

    def __init__(self, uri: str, data: DataSection) -> None:
        self.root = local_path(uri)
        if not self.root.is_dir():
            raise UsageError("there is no such folder", where=str(self.root), fix="Check --source")
        self.name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.root.name).strip("-.") or "folder"
        self._data = data

    def candidates(self) -> list[Candidate]:
        """The pairs on offer, sorted by id.

        Raises:
            DataRefused: If nothing is found, naming what was looked for, or an id stands twice.
        """
        found = list(self._from_lists()) or list(self._from_patterns())
        if not found:
            patterns = ", ".join(folder.image for folder in self._data.folders)
            raise DataRefused(
                f"no image is found (looked for {patterns})", where=str(self.root), fix="Check --source or data.folders"
            )
        seen: dict[str, Candidate] = {}
        for candidate in found:
            other = seen.setdefault(candidate.id, candidate)
            if other is not candidate:
                raise DataRefused(
                    f"id '{candidate.id}' stands for {other.image} and {candidate.image}",
                    where=str(self.root),
                    fix="Rename one of them, or list an image once",
                )
        return [seen[id_] for id_ in sorted(seen)]

    def _from_lists(self) -> Iterator[Candidate]:
        for name in self._data.split.lists:
            path = self.root / f"{name}.csv"
            if not path.is_file():
                continue
            with path.open(newline="", encoding="utf-8") as stream:
                rows = csv.DictReader(stream)
                if not {"image", "label"} <= set(rows.fieldnames or ()):
                    raise DataRefused("a list has the columns image and label", where=str(path), fix="Add a header row")
                for row in rows:
                    image = self._inside(row["image"], path)
                    label = self._inside(row["label"], path) if row["label"] else None
                    yield self._candidate(image.stem, image, label, source_split=name)

    def _from_patterns(self) -> Iterator[Candidate]:
        for folder in self._data.folders:
            before, after = folder.image.split("{id}")
            images = sorted(self.root.glob(folder.image.replace("{id}", "*")))
            for image in images:
                text = image.relative_to(self.root).as_posix()
                scene_id = text[len(before) : len(text) - len(after)]
                label = self.root / folder.label.replace("{id}", scene_id)
                yield self._candidate(scene_id, image, label if label.is_file() else None)
            if images:
                return

    def _candidate(self, scene_id: str, image: Path, label: Path | None, source_split: str | None = None) -> Candidate:
        path = self.root / "items" / f"{scene_id}.json"
        item = None
        if path.is_file():
            try:
                item = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise DataRefused(f"the item is no JSON ({error})", where=str(path)) from error
        collection = (item or {}).get("collection") or self.name
        return Candidate(scene_id, str(collection), image, label, item, source_split)

    def _inside(self, relative: str, listed_in: Path) -> Path:
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise DataRefused(f"'{relative}' lies outside the folder", where=str(listed_in), fix="Use relative paths")
        return path
