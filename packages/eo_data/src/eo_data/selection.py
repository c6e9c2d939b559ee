"""Which scenes a dataset is made of: accepted ones with a label, one content each, simulated or real."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from eo_data.errors import DataRefused, UsageError
from eo_data.scene import Scene
from eo_data.store import Store
from eo_data.suite import suite_digest
from eo_data.usecase import UseCase
from eo_data.validate import Verdict, load_verdict, load_verdicts


@dataclass(frozen=True)
class Selection:
    """The scenes of a dataset, and how many were left out for want of a label or for being simulated."""

    verdicts: tuple[Verdict, ...]
    unlabelled: int
    simulated_left_out: int


def select_scenes(store: Store, usecase: UseCase, verdicts: str | None = None, ids: Collection[str] = ()) -> Selection:
    """The newest accepted content of each scene with a label; simulated and real scenes never together.

    Args:
        store: Where scenes and verdicts lie.
        usecase: Whose verdicts count.
        verdicts: URI of a batch's verdicts. Every accepted scene takes part; where that batch has a real scene,
            simulated ones are left out and counted, else real ones are.
        ids: The scenes to take. Without these and without `verdicts` every accepted real scene takes part, and
            simulated ones where there are no others.

    Raises:
        UsageError: If the verdicts are of another use case or of other expectations than it has now.
        DataRefused: If there are no such verdicts, a scene named is not accepted, or no scene is left.
    """
    suite = suite_digest(usecase.data)
    batch: list[Verdict] = []
    if verdicts is not None:
        summary = load_verdicts(store, verdicts)
        if (summary.usecase, summary.suite) != (usecase.name, suite):
            raise UsageError(
                f"these verdicts are not of use case '{usecase.name}' as it is now",
                where=verdicts,
                fix="Validate again",
            )
        batch = [load_verdict(store, key) for key in summary.verdicts.values()]
    prefix = f"verdicts/{usecase.name}/{suite}"
    found = [load_verdict(store, key) for key in store.list(prefix) if "/batches/" not in key]
    accepted = [verdict for verdict in found if verdict.accepted]
    if ids:
        _require_accepted(store, ids, found)
        accepted = [verdict for verdict in accepted if verdict.id in ids]
    simulated = all(verdict.simulated for verdict in batch or accepted)
    if ids and not simulated and any(verdict.simulated for verdict in accepted):
        raise DataRefused(
            "simulated and real scenes never share a dataset", where="--ids", fix="Name scenes of one kind"
        )
    contents: dict[str, list[Verdict]] = {}
    for verdict in accepted:
        if verdict.simulated == simulated:
            contents.setdefault(verdict.id, []).append(verdict)
    in_batch = {(verdict.scene, verdict.label) for verdict in batch}
    chosen = {id_: _newest(store, verdicts_, in_batch) for id_, verdicts_ in contents.items()}
    labelled = tuple(chosen[id_] for id_ in sorted(chosen) if chosen[id_].label is not None)
    left_out = len({v.id for v in accepted if v.simulated}) if not simulated else 0
    if not labelled:
        raise DataRefused(
            f"no accepted scene has a label ({len(chosen)} accepted)",
            where=verdicts or store.resolve(prefix),
            fix="Ingest labelled scenes",
        )
    return Selection(labelled, len(chosen) - len(labelled), left_out)


def label_record(store: Store, label: str) -> dict[str, Any]:
    """What is known of a label, by the key of its raster."""
    return store.get_json(label.rsplit("/", 1)[0] + "/label.json")


def _require_accepted(store: Store, ids: Collection[str], found: Sequence[Verdict]) -> None:
    for id_ in sorted(set(ids) - {verdict.id for verdict in found if verdict.accepted}):
        reasons = next(("; ".join(verdict.reasons) for verdict in found if verdict.id == id_), None)
        if reasons is None:
            raise DataRefused(f"scene '{id_}' has no verdict", where=store.uri, fix="Ingest and validate it first")
        raise DataRefused(f"scene '{id_}' is in quarantine ({reasons})", where=store.uri, fix="Leave it out")


def _newest(store: Store, verdicts: Sequence[Verdict], in_batch: set[tuple[str, str | None]]) -> Verdict:
    """Of several contents of one scene that of the newest batch, else the labelled one that came last."""
    if len(verdicts) == 1:
        return verdicts[0]

    def order(verdict: Verdict) -> tuple[bool, bool, str, str, str, str]:
        created = str(Scene.load(store, verdict.scene).properties.get("created"))
        labelled = "" if verdict.label is None else str(label_record(store, verdict.label).get("created"))
        newest_batch = (verdict.scene, verdict.label) in in_batch
        return newest_batch, verdict.label is not None, created, labelled, verdict.scene, verdict.label or ""

    return max(verdicts, key=order)
