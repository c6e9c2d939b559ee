"""Where something comes from and what came of it: from a scene, a dataset, a version or a mask to all the others.

Nothing is kept for this alone. Datasets name their scenes, versions their dataset, run and commit, runs their DAG run,
evaluations and the ledger their verdicts, predictions their scene and version: this walks along those names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eo_data.dataset import Manifest
from eo_data.errors import DataRefused
from eo_data.model.files import GRAPH_TAG
from eo_data.model.ledger import Ledger
from eo_models.evaluation_record import VerdictRecord

if TYPE_CHECKING:
    from eo_data.store import Store

_VERSION: Final = re.compile(r"models:/([A-Za-z0-9._-]+)/([0-9]+)")
_DAG_TAGS: Final = ("terraloop.dag.id", "terraloop.dag.run", "terraloop.dag.url")


@dataclass(frozen=True)
class Origin:
    """A version and what made it.

    Attributes:
        uri: `models:/<name>/<number>`.
        digest: The model digest.
        dataset: Digest of what it was trained on.
        run: The MLflow run.
        commit: The code's version; None where it is not known.
        dag: `id`, `run` and `url` of the DAG run that trained it; empty outside Airflow.
    """

    uri: str
    digest: str
    dataset: str
    run: str
    commit: str | None
    dag: dict[str, str]


def trace(store: Store, subject: str) -> dict[str, Any]:
    """All that hangs together with something.

    Args:
        store: Where scenes, datasets, evaluations, the ledger and predictions lie.
        subject: A mask (path or URI of the GeoTIFF), a version (`models:/NAME/N`), a dataset's digest, or a scene's id.

    Returns:
        `subject`, `scenes` (ids), `datasets` (digests), `models` (each with run, commit, DAG run, evaluations, verdicts
        and ledger entries) and `predictions` (URIs of their items).

    Raises:
        DataRefused: If nothing of that name is known.
    """
    manifests = dict(_manifests(store))
    origins = list(_origins())
    predictions = list(_predictions(store))
    scenes, datasets, digests = _start(store, subject, manifests, origins, predictions)
    # From a scene to what was made of it, and from a version to what it was made of; never on to the scene's
    # neighbours, for by them everything hangs together with everything.
    models = [one for one in origins if one.digest in digests or one.dataset in datasets]
    datasets |= {one.dataset for one in models if one.digest in digests}
    own = set(scenes)
    if not scenes:
        scenes = {scene.id for digest in datasets if digest in manifests for scene in manifests[digest].scenes}

    def _belongs(scene: str, digest: str) -> bool:
        """Of a version all its masks, of a mask itself alone, else all masks of the scenes."""
        return digest in digests and (not own or scene in own) if digests else scene in scenes

    made = [item for item, scene, digest in predictions if _belongs(scene, digest)]
    return {
        "subject": subject,
        "scenes": sorted(scenes),
        "datasets": sorted(datasets & set(manifests)),
        "models": [_model(store, one) for one in models],
        "predictions": sorted(made),
    }


def _start(
    store: Store,
    subject: str,
    manifests: dict[str, Manifest],
    origins: list[Origin],
    predictions: list[tuple[str, str, str]],
) -> tuple[set[str], set[str], set[str]]:
    """Scenes, datasets and model digests that the subject names itself."""
    if subject.lower().endswith((".tif", ".tiff")):
        scene, digest = _mask(subject)
        return ({scene} if scene else set()), set(), {digest}
    if _VERSION.fullmatch(subject):
        found = {one.digest for one in origins if one.uri == subject}
        if not found:
            raise DataRefused("there is no such model version", where=subject, fix="List them in MLflow's UI")
        return set(), set(), found
    if subject in manifests:
        return set(), {subject}, set()
    holding = {digest for digest, manifest in manifests.items() if any(s.id == subject for s in manifest.scenes)}
    known = holding or any(scene == subject for _, scene, _ in predictions)
    if not known and not any(key.split("/")[2] == subject for key in store.list("scenes") if key.count("/") > 2):
        raise DataRefused(
            "no scene, dataset or version of this name",
            where=subject,
            fix="Give a mask's path, models:/NAME/VERSION, a dataset's digest or a scene's id",
        )
    return {subject}, holding, set()


def _mask(path: str) -> tuple[str | None, str]:
    """The scene that a mask is of, where its item stands beside it, and the digest of the model that made it."""
    import json

    from eo_data.rasters import open_tiff
    from eo_data.store import local_path

    file = local_path(path)
    with open_tiff(str(file), file.name) as dataset:
        digest = dataset.tags().get("Terraloop-Digest")
    if digest is None:
        raise DataRefused("this raster says of no model that made it", where=str(file), fix="Give a mask of Terraloop")
    item = file.with_name("item.json")
    if not item.is_file():
        return None, str(digest)
    named = json.loads(item.read_text(encoding="utf-8"))["properties"]["terraloop:scene"]
    return str(named).rpartition("-")[0], str(digest)


def _manifests(store: Store) -> Iterator[tuple[str, Manifest]]:
    for key in store.list("datasets"):
        if key.endswith("/manifest.json") and key.count("/") == 2:
            yield key.split("/")[1], store.get_record(key, Manifest)


def _origins() -> Iterator[Origin]:
    """Every version of every registered model."""
    from eo_models.tracking import DATASET_TAG, answering, connect

    client = connect()
    with answering():
        for model in client.search_registered_models():
            for entry in client.search_model_versions(f"name='{model.name}'"):
                run = client.get_run(entry.run_id) if entry.run_id else None
                tags = dict(run.data.tags) if run else {}
                yield Origin(
                    uri=f"models:/{entry.name}/{entry.version}",
                    digest=entry.tags.get(GRAPH_TAG, ""),
                    dataset=entry.tags.get(DATASET_TAG) or tags.get(DATASET_TAG, ""),
                    run=str(entry.run_id or ""),
                    commit=tags.get("mlflow.source.git.commit"),
                    dag={key.rpartition(".")[2]: tags[key] for key in _DAG_TAGS if key in tags},
                )


def _predictions(store: Store) -> Iterator[tuple[str, str, str]]:
    """URI of the item, scene and model digest of every prediction."""
    for key in store.list("predictions"):
        parts = key.split("/")
        if parts[-1] == "item.json" and len(parts) == 4:
            yield store.resolve(key), parts[1].rpartition("-")[0], parts[2]


def _model(store: Store, origin: Origin) -> dict[str, Any]:
    """A version with its evidence."""
    keys = store.list(f"evaluations/{origin.digest}") if origin.digest else []
    verdicts = [store.get_record(key, VerdictRecord) for key in keys if "/verdict-" in key]
    name, number = _VERSION.fullmatch(origin.uri).groups()  # type: ignore[union-attr]
    entries = [entry for entry in Ledger(store, name).entries() if entry.version == int(number)]
    return {
        "model": origin.uri,
        "digest": origin.digest,
        "dataset": origin.dataset,
        "run": origin.run,
        "commit": origin.commit,
        "dag": origin.dag,
        "evaluations": [store.resolve(key) for key in keys if key.endswith("/evaluation.json")],
        "verdicts": [{"verdict": one.verdict, "reasons": list(one.reasons)} for one in verdicts],
        "promotions": [{"entry": one.number, "reason": one.reason} for one in entries],
    }
