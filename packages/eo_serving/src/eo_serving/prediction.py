"""`eo-serving predict`: mask, STAC item and quicklook of a scene, in process, row by row."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eo_data.digests import SHORT
from eo_data.errors import DataRefused, UsageError
from eo_data.model.files import fetch_model
from eo_data.rasters import ImageRaster, open_image
from eo_data.scene import Scene
from eo_data.store import Store, local_path
from eo_data.usecase import DataSection, UseCase
from eo_serving.call import Call
from eo_serving.doubts import doubts, refuse_undeclared
from eo_serving.input_sample import InputSample
from eo_serving.mask_item import ITEM_KEY, MASK_KEY, QUICKLOOK_KEY, mask_item
from eo_serving.masks import RasterGrid, mask_file
from eo_serving.quicklooks import Thumbnail
from eo_serving.service import Service, open_service

if TYPE_CHECKING:
    from eo_data.model.description import ModelClass
    from eo_data.radiometry import Radiometry

log = logging.getLogger(__name__)

_SHOWN: Final = 4_000_000
"""Pixels from which on progress is shown."""


@dataclass(frozen=True)
class Subject:
    """What is predicted: a scene of the store, or a GeoTIFF.

    Attributes:
        id: Its id.
        content: Short hash of its content.
        uri: Where it lies: the scene's item, or the file.
        item: The scene's STAC item; None for a file.
        image: Opens its input bands.
    """

    id: str
    content: str
    uri: str
    item: dict[str, Any] | None
    image: AbstractContextManager[ImageRaster]


def predict(usecase: UseCase, store: Store, scene: str, out: str | None, uri: str | None) -> dict[str, Any]:
    """Write the mask of a scene.

    Objects are written first, the item last: where there is an item, there is everything. A prediction that is
    there already is not made again.

    Args:
        usecase: Whose bands and classes.
        store: Where scenes and the ledger are.
        scene: A scene's id or URI in the store, or path or `file://` URI of a GeoTIFF.
        out: URI of the folder to write; None is the store's `predictions/<id>-<content>/<model-digest>/`.
        uri: The version; None is the ledger's champion.

    Returns:
        The step's result: `mask`, `item`, `quicklook`, `mask_digest`, `radiometry`, `model`, `digest`.

    Raises:
        DataRefused: If the scene or the version cannot be used.
        UsageError: If the folder holds another prediction.
    """
    service = open_service(fetch_model(uri or f"models:/{usecase.name}@champion", store), usecase)
    subject = find_subject(store, usecase.data, scene)
    folder = f"predictions/{subject.id}-{subject.content}/{service.digest}"
    target = Store(out if out is not None else store.resolve(folder))
    item = existing(target, subject, service.digest)
    return result(target, item if item is not None else _make(target, subject, service))


def result(target: Store, item: dict[str, Any]) -> dict[str, Any]:
    """The step's result for what an item names."""
    properties = item["properties"]
    return {
        "mask": target.resolve(MASK_KEY),
        "item": target.resolve(ITEM_KEY),
        "quicklook": target.resolve(QUICKLOOK_KEY),
        "mask_digest": properties["terraloop:mask_digest"],
        "radiometry": properties["terraloop:radiometry_rule"],
        "model": properties["terraloop:model"],
        "digest": properties["terraloop:digest"],
    }


def find_subject(store: Store, data: DataSection, scene: str) -> Subject:
    """What `--scene` names.

    Raises:
        DataRefused: If there is no such thing.
        UsageError: If it is a URI that cannot be read here.
    """
    if scene.lower().endswith((".tif", ".tiff")) and not scene.startswith(f"{store.uri}/"):
        path = local_path(scene)
        if not path.is_file():
            raise DataRefused("there is no such file", where=str(path), fix="Check --scene")
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()[:SHORT]
        return Subject(path.stem, content, path.as_uri(), None, open_image(str(path), data, where=path.name))
    found = Scene.find(store, scene)
    return Subject(found.id, found.content, found.uri, found.item, found.image(data))


def existing(target: Store, subject: Subject, digest: str) -> dict[str, Any] | None:
    """The item of this very prediction, where it is there already."""
    if not target.exists(ITEM_KEY):
        return None
    item = target.get_json(ITEM_KEY)
    properties = item.get("properties", {})
    wanted = (f"{subject.id}-{subject.content}", digest)
    if (properties.get("terraloop:scene"), properties.get("terraloop:digest")) != wanted:
        raise UsageError("this folder holds another prediction", where=target.uri, fix="Choose another --out")
    log.info("predict: %s by %s is there already", *wanted)
    return item


@dataclass(frozen=True)
class MadeMask:
    """A mask and its picture, not yet where they belong.

    Attributes:
        path: The mask's COG.
        quicklook: The picture, PNG.
        mask_digest: Of the mask's pixels.
        model: The version that made it, `<name>/<version>`.
        run: The MLflow run that made the version.
        digest: The model digest.
        radiometry: The rule that was applied.
        classes: The mask's classes.
    """

    path: Path
    quicklook: bytes
    mask_digest: str
    model: str
    run: str
    digest: str
    radiometry: Radiometry
    classes: tuple[ModelClass, ...]


def _make(target: Store, subject: Subject, service: Service) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="terraloop-predict-") as folder, subject.image as image:
        path = Path(folder) / MASK_KEY
        sample = InputSample(len(service.data.classes))
        digest, thumbnail = _write_mask(path, image, service, Call(sample=sample))
        found, expect = sample.statistics(), service.data.expectations
        refuse_undeclared(found, image.radiometry, expect)
        for doubt in doubts(found, image.radiometry, expect):
            log.warning("predict: %s: %s", subject.id, doubt)
        classes = service.model.description.output.classes
        made = MadeMask(
            path,
            thumbnail.png(classes),
            digest,
            service.label,
            service.run,
            service.digest,
            image.radiometry,
            tuple(classes),
        )
        return publish(target, subject, made)


def publish(target: Store, subject: Subject, made: MadeMask) -> dict[str, Any]:
    """Write mask and quicklook, then the item that names them; the item."""
    item = mask_item(
        made.path,
        scene_id=subject.id,
        scene_uri=subject.uri,
        scene_item=subject.item,
        classes=made.classes,
        facts={
            "terraloop:scene": f"{subject.id}-{subject.content}",
            "terraloop:model": made.model,
            "terraloop:run": made.run,
            "terraloop:digest": made.digest,
            "terraloop:radiometry": str(made.radiometry),
            "terraloop:radiometry_rule": {
                "scale": made.radiometry.scale,
                "offset": made.radiometry.offset,
                "source": made.radiometry.source,
            },
            "terraloop:mask_digest": made.mask_digest,
        },
    )
    _put(target, MASK_KEY, made.path)
    _put(target, QUICKLOOK_KEY, made.quicklook)
    target.put_json_new(ITEM_KEY, item)
    log.info("predict: mask of %s by %s is at %s", subject.id, made.model, target.resolve(MASK_KEY))
    return item


def _write_mask(path: Path, image: ImageRaster, service: Service, call: Call) -> tuple[str, Thumbnail]:
    """Write the mask; the digest of its pixels and the picture that was gathered on the way."""
    digest, thumbnail = hashlib.sha256(), Thumbnail(image.shape, service.data)
    classes = service.model.description.output.classes
    scratch = path.with_suffix(".scratch.tif")
    with (
        mask_file(str(path), str(scratch), RasterGrid.of(image), classes, service.identity(image.radiometry)) as target,
        _progress(image) as bar,
    ):
        for rows in service.rows(thumbnail.watch(image.read), image.shape, call):
            target.write(rows.top, rows.mask[None])
            digest.update(rows.mask.tobytes())
            thumbnail.add(rows)
            bar.update(rows.mask.shape[0])
    scratch.unlink()
    return digest.hexdigest(), thumbnail


@contextlib.contextmanager
def _progress(image: ImageRaster) -> Iterator[Any]:
    from tqdm import tqdm

    small = image.shape[0] * image.shape[1] < _SHOWN
    with tqdm(total=image.shape[0], desc="predict", unit="row", disable=small, mininterval=1.0) as bar:
        yield bar


def _put(target: Store, key: str, data: bytes | Path) -> None:
    """Write an object; one that is there already must be the same, left by a call that was ended."""
    if target.put_new(key, data):
        return
    new = data if isinstance(data, bytes) else data.read_bytes()
    if target.get(key) != new:
        raise UsageError(
            "something else lies there", where=target.resolve(key), fix="Choose another --out or remove it"
        )
