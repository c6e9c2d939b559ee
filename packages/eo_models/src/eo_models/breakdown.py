"""Counts per chip summed up: a split's pooled figures with intervals, and the same per cell, scene and stratum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from eo_models.bootstrap import pooled_bounds
from eo_models.configuration import GateSection
from eo_models.confusion import Counts, pool
from eo_models.contestants import ChipScore
from eo_models.evaluation_record import Part, Pooled, ScenePart, SplitScores
from eo_models.scene_facts import STRATA, SceneFacts


def summarise(
    scores: Sequence[ChipScore],
    roles: Sequence[str],
    seen: frozenset[str],
    facts: Mapping[str, SceneFacts],
    section: GateSection,
) -> SplitScores:
    """One split of an evaluation, without the cells that a model has seen.

    Args:
        scores: Counts per chip and role.
        roles: Those that were scored.
        seen: Cells that are dropped, and counted.
        facts: By scene id.
        section: The bootstrap's settings.
    """
    kept = [one for one in scores if one.chip.cell not in seen]
    left_out = [one.chip.cell for one in scores if one.chip.cell in seen]
    per_cell = {cell: (parts, _sums(parts, roles)) for cell, parts in _grouped(kept, lambda one: one.chip.cell)}
    sums = {cell: counts for cell, (_, counts) in per_cell.items()}
    return SplitScores(
        chips=len(kept),
        dropped={"cells": len(set(left_out)), "chips": len(left_out)},
        pooled={role: pooled(pool(counts[role] for counts in sums.values())) for role in roles},
        intervals={
            role: pooled_bounds(cell_counts(sums.values(), role), resamples=section.resamples, seed=section.seed)
            for role in roles
        },
        cells=tuple(
            {"cell": cell, "chips": len(parts), **{role: counts[role].as_list() for role in roles}}
            for cell, (parts, counts) in per_cell.items()
        ),
        scenes=tuple(
            ScenePart(
                scene=scene,
                cells=tuple(sorted({one.chip.cell for one in parts})),
                **dict(part(parts, roles)),
            )
            for scene, parts in _grouped(kept, lambda one: one.chip.scene)
        ),
        strata={
            kind: {value: part(parts, roles) for value, parts in _grouped(kept, _stratum(facts, kind))}
            for kind in STRATA
        },
    )


def cell_counts(cells: Iterable[Mapping[str, Counts]], role: str) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """`[cells, 3]`: tp, fp, fn of one role, as the bootstrap takes them."""
    return np.array([counts[role].as_list()[:3] for counts in cells], dtype=np.int64).reshape(-1, 3)


def pooled(counts: Counts) -> Pooled:
    """Counts with the figures made of them."""
    tp, fp, fn, tn = counts.as_list()
    return Pooled(**counts.figures(), counts=(tp, fp, fn, tn))


def part(scores: Sequence[ChipScore], roles: Sequence[str]) -> Part:
    """Some chips, pooled."""
    return Part(chips=len(scores), pooled={role: pooled(counts) for role, counts in _sums(scores, roles).items()})


def _stratum(facts: Mapping[str, SceneFacts], kind: str) -> Callable[[ChipScore], str]:
    return lambda one: facts.get(one.chip.scene, SceneFacts()).stratum(kind)


def _sums(scores: Sequence[ChipScore], roles: Sequence[str]) -> dict[str, Counts]:
    return {role: pool(one.counts[role] for one in scores) for role in roles}


def _grouped(scores: Sequence[ChipScore], key: Callable[[ChipScore], str]) -> list[tuple[str, list[ChipScore]]]:
    """Scores by key, sorted by it."""
    groups: dict[str, list[ChipScore]] = defaultdict(list)
    for one in scores:
        groups[key(one)].append(one)
    return sorted(groups.items())
