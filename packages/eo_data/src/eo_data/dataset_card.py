"""The dataset card: a dataset's manifest and statistics for people, in Markdown."""

from __future__ import annotations

from eo_data.dataset import Manifest, Statistics
from eo_data.usecase import SPLITS, UseCase


def dataset_card(manifest: Manifest, statistics: Statistics, usecase: UseCase) -> str:
    """The card: what it holds per split, its statistics, what was left out, and what to beware of."""
    lines = [f"# Dataset {manifest.digest[:12]}", "", f"{usecase.title}, use case `{usecase.name}`.", ""]
    if all(scene.simulated for scene in manifest.scenes):
        lines += ["**Simulated scenes**: good for trying the system, no proof of quality.", ""]
    lines += [
        "| split | chips | cells | " + " | ".join(f"{name}, pixels" for name in manifest.classes) + " |",
        "|---|---:|---:|" + "---:|" * len(manifest.classes),
    ]
    for split in SPLITS:
        chips = [chip for chip in manifest.chips if chip.split == split]
        counts = [sum(chip.class_counts[k] for chip in chips) for k in range(len(manifest.classes))]
        cells = len({chip.cell for chip in chips})
        lines.append(f"| {split} | {len(chips)} | {cells} | " + " | ".join(f"{n:,}" for n in counts) + " |")
    lines += ["", "![Where the chips of each split lie](map.png)", ""]
    lines += ["| band | mean | std |", "|---|---:|---:|"]
    for band, mean, std in zip(manifest.bands, statistics.mean, statistics.std, strict=True):
        lines.append(f"| {band} | {mean:.1f} | {std:.1f} |")
    lines += ["", "Mean and standard deviation are of the training split, reflectance x 10000.", ""]
    if any(chip.longitude is not None for chip in manifest.chips):
        lines.append("- Chips of different splits lie at least one chip apart on the ground.")
    lines += [f"- {count} chips left out: {reason}." for reason, count in manifest.dropped.items()]
    for name, shares in usecase.data.split.lists.items():
        if not isinstance(shares, str):
            sides = " and ".join(str(split) for split in shares)
            lines.append(
                f"- {sides} are shares of the list `{name}` by hash of the place, else of the scene's id: scenes "
                "without a place may show the same one."
            )
    lines.append(f"- Made by commit {manifest.git_commit or 'unknown'}, chip format {manifest.chip_format}.")
    return "\n".join(lines) + "\n"
