"""`eo-serving predict --endpoint`: the same mask, item and quicklook, made by an endpoint."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eo_data.digests import mask_digest
from eo_data.errors import TemporaryFailure, UsageError
from eo_data.model.description import ModelClass
from eo_data.radiometry import Radiometry
from eo_data.store import Store, local_path
from eo_serving.client import Client
from eo_serving.mask_item import MASK_KEY
from eo_serving.prediction import MadeMask, existing, find_subject, publish, result

if TYPE_CHECKING:
    from eo_data.usecase import UseCase

_RADIOMETRY: Final = re.compile(r"scale=(\S+) offset=(\S+) \(([a-z-]+)\)")


def predict_remotely(usecase: UseCase, store: Store, scene: str, out: str | None, endpoint: str) -> dict[str, Any]:
    """Write the mask that an endpoint makes of a GeoTIFF; pixel by pixel the one that `predict` makes of it.

    Args:
        usecase: Whose bands and classes.
        store: Where predictions go unless `out` says otherwise.
        scene: Path or `file://` URI of a GeoTIFF, within the endpoint's limits.
        out: URI of the folder to write; None is the store's `predictions/<id>-<content>/<model-digest>/`.
        endpoint: The front's address; its token is `TERRALOOP_ENDPOINT_TOKEN`.

    Returns:
        As `eo_serving.prediction.predict`.

    Raises:
        UsageError: If this is no file, the token is wrong, or the folder holds another prediction.
        DataRefused: If the endpoint refuses the raster.
        TemporaryFailure: If the endpoint is out of reach, or its version changed between mask and quicklook.
    """
    if not scene.lower().endswith((".tif", ".tiff")):
        raise UsageError("an endpoint is sent a file", where="--scene", fix="Give the path of a GeoTIFF")
    subject = find_subject(store, usecase.data, scene)
    path = local_path(scene)
    with Client(endpoint) as client, tempfile.TemporaryDirectory(prefix="terraloop-predict-") as folder:
        mask = client.mask(path)
        target = Store(out or store.resolve(f"predictions/{subject.id}-{subject.content}/{mask.digest}"))
        item = existing(target, subject, mask.digest)
        if item is None:
            quicklook = client.quicklook(path)
            if quicklook.digest != mask.digest:
                raise TemporaryFailure(
                    f"{mask.model} made the mask, {quicklook.model} answers now", where=endpoint, fix="Try again"
                )
            classes = (ModelClass(value=n, name=c.name, color=c.color) for n, c in enumerate(usecase.data.classes))
            made = MadeMask(
                mask.save(Path(folder) / MASK_KEY),
                quicklook.content,
                mask_digest(mask.array()),
                mask.model,
                mask.run,
                mask.digest,
                _radiometry(mask.radiometry, endpoint),
                tuple(classes),
            )
            item = publish(target, subject, made)
        return result(target, item)


def _radiometry(said: str, endpoint: str) -> Radiometry:
    """The rule that a `Terraloop-Radiometry` header names."""
    found = _RADIOMETRY.fullmatch(said)
    if found is None:
        raise UsageError("this is no endpoint of Terraloop", where=endpoint, fix="Check --endpoint")
    return Radiometry(float(found[1]), float(found[2]), None, found[3])
