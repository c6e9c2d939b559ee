"""The tables of an evaluation's report, and how its numbers are written."""

from __future__ import annotations

from typing import Final

from eo_models.bootstrap import Bounds
from eo_models.documents import Block, Paragraph, Share, Table
from eo_models.evaluation_record import Evaluation, Part, Pooled
from eo_models.scene_facts import ABSENT, STRATA

SHOWN: Final = ("holdout", "test", "validation")

_SPLITS: Final = {
    "holdout": "Holdout: what the gate judges",
    "test": "Test: shown, never used to choose",
    "validation": "Validation: choices were made on it, so its figures flatter",
}


def figure(value: float | None) -> str:
    """Three places, or the word for what is not defined."""
    return "undefined" if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return "undefined" if value is None else f"{value:+.3f}"


def bracketed(bounds: Bounds) -> str:
    """`[0.508, 0.758]`."""
    return "undefined" if bounds.low is None else f"[{figure(bounds.low)}, {figure(bounds.high)}]"


def role_names(record: Evaluation) -> dict[str, str]:
    """What each role is called, in the order of tables; the index is a row of its own only where no baseline is it."""
    known = {party.digest for party in record.baselines.values()}
    roles = ("candidate", "champion") + (() if record.index.digest in known else ("index",))
    names = {role: f"{role} ({getattr(record, role).architecture})" for role in roles}
    for role, party in sorted(record.baselines.items(), key=lambda one: one[1].digest != record.index.digest):
        name = "index: " if party.digest == record.index.digest else ""
        names[role] = f"{name}{party.architecture} > {party.threshold:g}, {'' if '_tuned' in role else 'un'}tuned"
    return names


def split_table(record: Evaluation, split: str) -> Table:
    """Everyone's figures on a split."""
    scores = record.splits[split]
    rows = tuple(
        (name, iou, bracketed(scores.intervals[role]), *others)
        for role, name in role_names(record).items()
        for iou, *others in [_figures(scores.pooled[role])]
    )
    dropped = scores.dropped
    caption = f"{_SPLITS[split]}. {scores.chips} chips, {len(scores.cells)} cells, {len(scores.scenes)} scenes"
    if dropped["cells"]:
        caption += f"; {dropped['cells']} cells ({dropped['chips']} chips) left out: a model was trained on them"
    return Table(("", "IoU", "95 % interval", "F1", "precision", "recall"), rows, caption)


def differences_table(record: Evaluation) -> Table:
    """Candidate minus index and champion on the holdout."""
    rows = tuple(
        (f"candidate minus {role}", signed(one.difference), f"[{signed(one.low)}, {signed(one.high)}]")
        for role, one in record.comparisons.items()
    )
    caption = (
        f"Difference of pooled IoU, paired over cells; {record.holdout_cells_with_target} cells hold {record.target}"
    )
    return Table(("", "difference", "95 % interval"), rows, caption)


def strata_blocks(record: Evaluation) -> list[Block]:
    """A table per kind of stratum; a sentence where no scene says it."""
    blocks: list[Block] = []
    for kind in STRATA:
        found = {split: record.splits[split].strata[kind] for split in ("holdout", "test")}
        values = sorted({value for parts in found.values() for value in parts} - {ABSENT})
        if not values:
            blocks.append(Paragraph(f"By {kind}: absent, no scene of holdout and test says it."))
            continue
        rows = tuple(
            (value, *(cell for split in ("holdout", "test") for cell in _stratum(found[split].get(value))))
            for value in [*values, *([ABSENT] if any(ABSENT in parts for parts in found.values()) else [])]
        )
        blocks.append(
            Table(
                (kind, "holdout chips", "candidate IoU", "index IoU", "test chips", "candidate IoU", "index IoU"),
                rows,
                f"By {kind}",
                folded=len(rows) > 14,
            )
        )
    return blocks


def scenes_table(record: Evaluation, split: str) -> Table:
    """Figures of every scene of a split, the candidate's worst first."""
    scenes = sorted(record.splits[split].scenes, key=lambda scene: (scene.pooled["candidate"].iou is None,
                                                                    scene.pooled["candidate"].iou or 0.0))  # fmt: skip
    rows = tuple(
        (
            scene.scene,
            str(scene.chips),
            *_figures(scene.pooled["candidate"]),
            figure(scene.pooled["champion"].iou),
            figure(scene.pooled["index"].iou),
        )
        for scene in scenes
    )
    head = ("scene", "chips", "IoU", "F1", "precision", "recall", "champion IoU", "index IoU")
    return Table(head, rows, f"Every scene of the {split} split, the candidate's worst first", folded=True)


def behaviour_table(record: Evaluation) -> Table:
    """What was tried, and what came of it."""
    says = {True: "passed", False: "FAILED", None: "not asked"}
    rows = tuple(
        (
            check.name + (" (simulated)" if check.simulated else ""),
            says[check.passed],
            "undefined" if check.value is None else f"{check.value:g}",
            check.limit,
            check.detail,
        )
        for check in record.behaviour
    )
    return Table(("", "", "value", "limit", "what was done"), rows)


def costs_table(record: Evaluation) -> Table:
    """CPU and memory by role."""
    costs = record.costs
    rows = tuple(
        (
            role,
            f"{1000 * cost.chip_seconds:.1f} ms",
            f"{cost.megapixel_seconds:.2f} s",
            f"{cost.peak_memory / 2**20:.0f} MiB",
            str(cost.runs),
        )
        for role, cost in costs.models.items()
    )
    caption = f"Medians of CPU time; the raster is {costs.raster} x {costs.raster} pixels"
    return Table(
        ("", f"a chip of {costs.chip} x {costs.chip}", "a megapixel", "peak memory rises by", "runs"), rows, caption
    )


def _stratum(part: Part | None) -> tuple[str | Share, ...]:
    if part is None:
        return "0", "", ""
    return str(part.chips), _share(part.pooled["candidate"].iou), figure(part.pooled["index"].iou)


def _figures(pooled: Pooled) -> tuple[str | Share, ...]:
    return _share(pooled.iou), figure(pooled.f1), figure(pooled.precision), figure(pooled.recall)


def _share(value: float | None) -> Share:
    return Share(figure(value), value)
