"""Sources: where scenes come from. Each gives candidates; `ingest` judges and stores them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from eo_data.errors import DataRefused, UsageError
from eo_data.source_items import read_item
from eo_data.store import local_path
from eo_data.usecase import DataSection

VALID_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What an id matches in full. Ids become folders of the store: no separators, no traversal."""


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
        fault: Why it cannot be taken, where the source itself can tell.
    """

    id: str
    collection: str
    image: Path
    label: Path | None = None
    item: dict[str, Any] | None = None
    source_split: str | None = None
    fault: DataRefused | None = None


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
        """The pairs on offer, sorted by id; one that cannot be taken bears its fault, as does an id that stands twice.

        Raises:
            DataRefused: If nothing is found, naming what was looked for, or a list cannot be read.
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
                fault = DataRefused(
                    f"this id stands for {_told(other)} and for {_told(candidate)}",
                    where=candidate.id,
                    fix="Rename one of them, or list an image once",
                )
                seen[candidate.id] = replace(other, fault=fault)
        return [seen[id_] for id_ in sorted(seen)]

    def _from_lists(self) -> Iterator[Candidate]:
        for name in self._data.split.lists:
            path = self.root / f"{name}.csv"
            if not path.is_file():
                continue
            try:
                rows = self._rows(path)
            except (ValueError, csv.Error) as error:  # a UnicodeDecodeError is a ValueError
                raise DataRefused(f"the list cannot be read ({error})", where=str(path), fix="Save as UTF-8") from error
            for number, image, label in rows:
                yield self._listed_pair(name, f"{path}, line {number}", image, label)

    def _rows(self, path: Path) -> list[tuple[int, str, str]]:
        """A list's rows: line, image, label."""
        with path.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets begin with a byte order mark
            rows = csv.DictReader(stream, skipinitialspace=True)
            if not {"image", "label"} <= set(rows.fieldnames or ()):
                raise DataRefused("a list has the columns image and label", where=str(path), fix="Add a header row")
            return [(rows.line_num, row["image"] or "", row["label"] or "") for row in rows]

    def _listed_pair(self, name: str, where: str, image: str, label: str) -> Candidate:
        """The pair of a row; a row that names no image inside the folder becomes a candidate with a fault."""
        try:
            paths = [self._inside(text.strip(), where) if text.strip() else None for text in (image, label)]
            if paths[0] is None:
                raise DataRefused("the row names no image", where=where, fix="Name one, or remove the row")
        except DataRefused as fault:
            return Candidate(where.rpartition("/")[2], self.name, self.root, source_split=name, fault=fault)
        return self._candidate(paths[0].stem, paths[0], paths[1], source_split=name)

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
        try:
            item = read_item(path) if VALID_ID.fullmatch(scene_id) and path.is_file() else None
        except DataRefused as fault:
            return Candidate(scene_id, self.name, image, label, None, source_split, fault)
        return Candidate(scene_id, (item or {}).get("collection") or self.name, image, label, item, source_split)

    def _inside(self, relative: str, listed_in: str) -> Path:
        try:
            path = (self.root / relative).resolve()
            path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL character, a loop of links
            raise DataRefused(f"'{relative[:80]}' is no path ({error})", where=listed_in, fix="Correct it") from error
        if not path.is_relative_to(self.root.resolve()):
            raise DataRefused(f"'{relative}' lies outside the folder", where=listed_in, fix="Use relative paths")
        return path


def _told(candidate: Candidate) -> str:
    """A candidate's image, and its list, for people."""
    return f"{candidate.image.name} of {candidate.source_split}.csv" if candidate.source_split else str(candidate.image)
