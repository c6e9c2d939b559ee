"""`validate`: a verdict per scene and label, by the use case's suite; quarantine is a verdict's state."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from eo_data.batches import pairs_of_batch, pairs_of_store
from eo_data.features import LabelKey, feature_row
from eo_data.scale import workers
from eo_data.scene import Scene
from eo_data.skew import report_skew
from eo_data.store import Store
from eo_data.suite import Finding, Rule, make_rules, run_suite, suite_digest
from eo_data.usecase import DataSection, UseCase

log = logging.getLogger(__name__)


class Verdict(BaseModel):
    """What validation says of one scene with one label.

    Attributes:
        scene: Key of the scene's folder.
        label: Key of the label's raster; None where the scene has none.
        accepted: False is quarantine: the scene stays in the store and no dataset takes it.
        reasons: Why it is quarantined: each critical expectation that failed.
        warnings: What else is odd; it changes nothing.
        features: The feature row that was judged.
        expectations: Every expectation with the observed value and whether it held.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    collection: str
    scene: str
    label: str | None
    simulated: bool
    accepted: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    features: dict[str, Any]
    expectations: tuple[dict[str, Any], ...]


class Verdicts(BaseModel):
    """`verdicts/<usecase>/<suite>/batches/<batch>.json`: the keys of one batch's verdicts by scene id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: str
    usecase: str
    suite: str
    verdicts: dict[str, str]


def validate(
    store: Store,
    usecase: UseCase,
    *,
    batch: str | None = None,
    ids: Sequence[str] = (),
    dask: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Judge the scenes of a batch, the scenes named, or (without either) all of the store.

    Two outcomes are kept apart: a scene that is not as expected is quarantined; an accepted one whose values are
    unlike those of the training scenes is reported (`eo_data.skew`), and stays accepted.

    Args:
        store: Where scenes lie and verdicts go.
        usecase: Whose expectations.
        batch: URI of one ingest's batch.
        ids: Ids of scenes.
        dask: Where the scenes are measured (`eo_data.scale.workers`); the verdicts are the same.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The step's result: `verdicts`, `accepted`, `quarantined` and `warnings` (id to reasons), `skew` (id to what
        is unlike; None where there is nothing to compare with), `skew_report` and `docs`.

    Raises:
        DataRefused: If a scene or the batch is not there.
        TemporaryFailure: If the cluster does not answer.
    """
    pairs, name = pairs_of_batch(store, batch) if batch is not None else pairs_of_store(store, ids)
    rules = make_rules(usecase.data)
    suite = suite_digest(usecase.data)
    prefix, docs = f"verdicts/{usecase.name}/{suite}", f"validation/docs/{usecase.name}/{suite}/{name}"
    summary_key = f"{prefix}/batches/{name}.json"
    if store.exists(summary_key):
        log.info("validate: these verdicts are there already")
    else:
        verdicts = _judge(store, usecase, pairs, rules, docs, f"{usecase.name} {suite} {name}", dask, progress)
        keys = {}
        for (scene, label), verdict in zip(pairs, verdicts, strict=True):
            keys[scene.id] = f"{prefix}/{scene.id}-{scene.content}-{label.content if label else 'none'}.json"
            store.put_json_new(keys[scene.id], verdict.model_dump(mode="json"))
        store.put_json_new(summary_key, {"batch": name, "usecase": usecase.name, "suite": suite, "verdicts": keys})
    found = [load_verdict(store, key) for key in load_verdicts(store, summary_key).verdicts.values()]
    accepted = sorted(v.id for v in found if v.accepted)
    quarantined = {v.id: "; ".join(v.reasons) for v in found if not v.accepted}
    for scene_id, reason in quarantined.items():
        log.warning("quarantined %s: %s", scene_id, reason)
    warnings = {v.id: "; ".join(v.warnings) for v in found if v.warnings}
    for scene_id, warning in warnings.items():
        log.warning("%s: %s", scene_id, warning)
    log.info("validate: %d accepted, %d quarantined", len(accepted), len(quarantined))
    skew, report = report_skew(store, usecase, suite, name, [v.features for v in found if v.accepted])
    return {
        "verdicts": store.resolve(summary_key),
        "accepted": accepted,
        "quarantined": quarantined,
        "warnings": warnings,
        "skew": skew,
        "skew_report": report,
        "docs": store.resolve(f"{docs}/index.html"),
    }


def load_verdict(store: Store, key: str) -> Verdict:
    """Read a verdict."""
    return store.get_record(key, Verdict)


def load_verdicts(store: Store, uri: str) -> Verdicts:
    """Read the verdicts of a batch.

    Raises:
        DataRefused: If they are not there, or the URI names something else.
    """
    return store.get_record(store.key(uri), Verdicts)


def _judge(
    store: Store,
    usecase: UseCase,
    pairs: Sequence[tuple[Scene, LabelKey | None]],
    rules: Sequence[Rule],
    docs: str,
    name: str,
    dask: str | None,
    progress: bool,
) -> list[Verdict]:
    from tqdm import tqdm

    with workers(dask) as run:
        made = run(partial(_row, store, usecase.data), pairs)
        bar = tqdm(made, total=len(pairs), desc="validate", unit="scene", disable=not progress, mininterval=1.0)
        rows = list(bar)
    with tempfile.TemporaryDirectory(prefix="terraloop-docs-") as folder:
        findings = run_suite(rules, rows, name, Path(folder))
        pages = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        for path in sorted(pages, key=lambda p: p.name == "index.html"):  # the index, which makes it visible, last
            store.put_new(f"{docs}/{path.relative_to(folder).as_posix()}", path)
    return [_verdict(*pair, row, findings) for pair, row in zip(pairs, rows, strict=True)]


def _row(store: Store, data: DataSection, pair: tuple[Scene, LabelKey | None]) -> dict[str, Any]:
    return feature_row(store, *pair, data)


def _verdict(scene: Scene, label: LabelKey | None, row: dict[str, Any], findings: Sequence[Finding]) -> Verdict:
    told: dict[str, list[str]] = {"critical": [], "warning": []}
    for finding in findings:
        if scene.id in finding.failed:
            told[finding.rule.severity].append(finding.rule.explain(row))
    return Verdict(
        id=scene.id,
        collection=scene.collection,
        scene=scene.key,
        label=label.key if label else None,
        simulated=scene.simulated,
        accepted=not told["critical"],
        reasons=tuple(told["critical"]),
        warnings=tuple(told["warning"]),
        features=row,
        expectations=tuple(
            {**f.rule.as_json(), "observed": row[f.rule.column], "success": scene.id not in f.failed} for f in findings
        ),
    )
