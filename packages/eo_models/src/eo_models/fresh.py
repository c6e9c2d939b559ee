"""`evaluate --fresh`: a version on the scenes that came after its dataset, beside its own holdout figures.

This is how a drop in quality is seen: labels that come later say how the model in service does on new scenes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from eo_data.dataset import ChipRecord, Dataset
from eo_data.digests import SHORT, json_digest
from eo_data.errors import UsageError
from eo_data.model.description import ModelDescription
from eo_data.model.files import ModelFiles, fetch_model
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_models.bootstrap import pooled_bounds
from eo_models.breakdown import cell_counts, pooled
from eo_models.configuration import GateSection, gate_section
from eo_models.confusion import Counts, pool
from eo_models.contestants import ChipScore, Contestant, registered, score, untuned
from eo_models.documents import Block, Paragraph, Table, markdown
from eo_models.evaluation_record import FreshEvaluation, FreshScores
from eo_models.inputs import require_same_data
from eo_models.report_tables import bracketed, figure
from eo_models.tracking import connect

log = logging.getLogger(__name__)

FRESH_FORMAT: Final = 1


def evaluate_fresh(store: Store, usecase: UseCase, model: str, uri: str, *, progress: bool = True) -> dict[str, Any]:
    """Score a version on all scenes outside its dataset whose cells it was not trained on.

    The sides of the split do not matter here: a cell that the version has not seen is new to it. Its holdout is
    scored anew on the dataset that it was made from, where that still lies in the store.

    Args:
        store: Where datasets and the ledger lie, and the result goes.
        usecase: Whose classes; its `gate` section has the bootstrap's settings.
        model: `models:/NAME/VERSION` or `models:/NAME@champion`.
        uri: The dataset, usually a later one than the version's.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The step's result: `evaluation`, `model`, `scenes`, `chips`, `iou` with `fresh`, `holdout` and their
        `difference` (fresh minus holdout; None where one is undefined), and `existing`.

    Raises:
        UsageError: If the dataset or the version belong to another use case.
        DataRefused: If the version's files are not what was registered.
        TemporaryFailure: If store or registry do not answer.
    """
    section = gate_section(usecase)
    dataset = Dataset(store, uri)
    require_same_data(dataset, usecase)
    connect()
    files = _fetch(store, usecase, model)
    own = own_dataset(store, files.description)
    rest = [FRESH_FORMAT, section.resamples, section.seed, own is not None]
    key = f"evaluations/{files.digest}/{dataset.digest}/fresh-{json_digest(rest)[:SHORT]}"
    existing = store.exists(f"{key}/fresh.json")
    if not existing:
        record = _score(usecase, registered(files, usecase), dataset, own, section, progress=progress)
        store.put_new(f"{key}/fresh.md", _document(record))
        store.put_json_new(f"{key}/fresh.json", record.model_dump(mode="json"))
    found = store.get_record(f"{key}/fresh.json", FreshEvaluation)
    fresh, holdout = found.fresh.pooled["model"].iou, found.holdout.pooled["model"].iou if found.holdout else None
    log.info(
        "evaluate: pooled IoU %s on %d fresh scenes, %s on its holdout",
        figure(fresh),
        found.fresh.scenes,
        figure(holdout),
    )
    return {
        "evaluation": store.resolve(f"{key}/fresh.json"),
        "model": files.uri,
        "scenes": found.fresh.scenes,
        "chips": found.fresh.chips,
        "iou": {
            "fresh": fresh,
            "holdout": holdout,
            "difference": None if fresh is None or holdout is None else fresh - holdout,
        },
        "existing": existing,
    }


def fresh_chips(dataset: Dataset, own: Dataset | None, seen: frozenset[str]) -> list[ChipRecord]:
    """Chips of scenes that are not in a version's own dataset and of cells that it was not trained on.

    A scene is its id and its pixels: one that was issued anew is another.

    Args:
        dataset: Where fresh scenes are looked for.
        own: The version's dataset; None where it is not in the store, and cells alone decide.
        seen: The version's training cells.
    """
    known = {(scene.id, scene.pixels) for scene in own.manifest.scenes} if own else set()
    fresh = {scene.id for scene in dataset.manifest.scenes if (scene.id, scene.pixels) not in known}
    return [chip for chip in dataset.chips() if chip.scene in fresh and chip.cell not in seen]


def own_dataset(store: Store, description: ModelDescription) -> Dataset | None:
    """The dataset that a version was made from; None where the store does not have it."""
    if not store.exists(f"datasets/{description.dataset_digest}/manifest.json"):
        log.warning("evaluate: the dataset that the version was made from is not in the store: no holdout figures")
        return None
    return Dataset(store, f"datasets/{description.dataset_digest}")


def _score(
    usecase: UseCase, model: Contestant, dataset: Dataset, own: Dataset | None, section: GateSection, *, progress: bool
) -> FreshEvaluation:
    from tqdm import tqdm

    def summed(data: Dataset, chips: Sequence[ChipRecord], title: str) -> FreshScores:
        roles = {"model": model, "index_untuned": untuned(usecase, data)}
        shown = tqdm(chips, desc=title, unit="chip", disable=not progress, mininterval=1.0)
        return _summed(score(roles, data, shown), list(roles), section)

    chips = fresh_chips(dataset, own, frozenset(model.description.training_cells))
    comparable = own is not None and own.manifest.usecase_data_digest == dataset.manifest.usecase_data_digest
    return FreshEvaluation(
        format=FRESH_FORMAT,
        usecase=usecase.name,
        model={"uri": str(model.uri), "digest": model.digest},
        dataset={"uri": dataset.uri, "digest": dataset.digest},
        own_dataset=model.description.dataset_digest,
        fresh=summed(dataset, chips, "fresh"),
        holdout=summed(own, own.chips("holdout"), "holdout") if own and comparable else None,
        left_out=len(dataset.chips()) - len(chips),
    )


def _summed(scores: Sequence[ChipScore], roles: Sequence[str], section: GateSection) -> FreshScores:
    cells: dict[str, dict[str, Counts]] = {}
    for one in scores:
        sums = cells.setdefault(one.chip.cell, {role: Counts() for role in roles})
        cells[one.chip.cell] = {role: sums[role] + one.counts[role] for role in roles}
    return FreshScores(
        scenes=len({one.chip.scene for one in scores}),
        chips=len(scores),
        cells=len(cells),
        pooled={role: pooled(pool(one.counts[role] for one in scores)) for role in roles},
        intervals={
            role: pooled_bounds(cell_counts(cells.values(), role), resamples=section.resamples, seed=section.seed)
            for role in roles
        },
    )


def _document(record: FreshEvaluation) -> bytes:
    """The same for people."""
    parts = {"fresh scenes": record.fresh} | ({"its own holdout": record.holdout} if record.holdout else {})
    blocks: list[Block] = [
        Paragraph(
            f"Scenes of dataset {record.dataset['digest'][:12]} that are not in the version's own, and whose cells it "
            f"was not trained on; {record.left_out} chips are left out."
        ),
        Table(
            ("", "scenes", "chips", "cells", "IoU", "95 % interval", "index, untuned"),
            tuple(
                (
                    name,
                    str(part.scenes),
                    str(part.chips),
                    str(part.cells),
                    figure(part.pooled["model"].iou),
                    bracketed(part.intervals["model"]),
                    figure(part.pooled["index_untuned"].iou),
                )
                for name, part in parts.items()
            ),
        ),
    ]
    return markdown(f"{record.model['uri']} on fresh scenes", blocks)


def _fetch(store: Store, usecase: UseCase, model: str) -> ModelFiles:
    """The version that is to be evaluated.

    Raises:
        UsageError: If it is a version of another use case's model.
    """
    candidate = fetch_model(model, store)
    if candidate.name != usecase.name:
        raise UsageError(
            f"this is a version of '{candidate.name}'", where=model, fix=f"Give a version of '{usecase.name}'"
        )
    return candidate
