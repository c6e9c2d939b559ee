"""Verdicts without Great Expectations: every scene of a batch accepted, for tests of what follows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from eo_data.features import LabelKey
from eo_data.ingest import ingest
from eo_data.scene import Scene
from eo_data.store import Store
from eo_data.suite import suite_digest
from eo_data.usecase import UseCase
from eo_data.validate import Verdict


def accept(store: Store, usecase: UseCase, source: str, quarantine: Collection[str] = ()) -> str:
    """Ingest a folder and accept all but the scenes named; the verdicts' URI."""
    batch = store.get_json(store.key(ingest(store, usecase, source, progress=False)["batch"]))
    prefix = f"verdicts/{usecase.name}/{suite_digest(usecase.data)}"
    labels: dict[str, Any] = {entry["id"]: LabelKey(**entry) for entry in batch["labels"]}
    keys = {}
    for entry in batch["scenes"]:
        scene = Scene.load(store, f"scenes/{entry['collection']}/{entry['id']}/{entry['content']}")
        label = labels.get(scene.id)
        verdict = Verdict(
            id=scene.id,
            collection=scene.collection,
            scene=scene.key,
            label=label.key if label else None,
            simulated=scene.simulated,
            accepted=scene.id not in quarantine,
            reasons=("by hand",) if scene.id in quarantine else (),
            features={},
            expectations=(),
        )
        keys[scene.id] = f"{prefix}/{scene.id}-{scene.content}-{label.content if label else 'none'}.json"
        store.put_json_new(keys[scene.id], verdict.model_dump(mode="json"))
    summary = f"{prefix}/batches/{batch['batch']}.json"
    store.put_json_new(
        summary,
        {"batch": batch["batch"], "usecase": usecase.name, "suite": suite_digest(usecase.data), "verdicts": keys},
    )
    return store.resolve(summary)
