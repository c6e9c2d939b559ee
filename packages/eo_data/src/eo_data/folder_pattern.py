"""`data.folders` of a use case: which files of a folder belong together."""

from __future__ import annotations

from pydantic import ValidationInfo, field_validator

from eo_data.section import Section


class FolderPattern(Section):
    """How image and label files of a folder pair up.

    `{id}` stands for the scene's id. With `{band}` in the image's pattern a scene is several files, a band each,
    and `*` may stand for what varies: `{id}.SAFE/GRANULE/*/IMG_DATA/*/*_{band}_*.jp2`.
    """

    image: str = "images/{id}.tif"
    label: str = "labels/{id}.tif"

    @field_validator("image", "label")
    @classmethod
    def _is_pattern(cls, pattern: str, info: ValidationInfo) -> str:
        banded = info.field_name == "image" and "{band}" in pattern
        if "{id}" not in pattern:
            raise ValueError(f"'{pattern}' must hold {{id}}")
        left = pattern.replace("{id}", "").replace("{band}", "") if banded else pattern.replace("{id}", "")
        if set("{}") & set(left):
            raise ValueError(f"'{pattern}': an image's pattern may hold {{id}} and {{band}}, a label's {{id}}")
        if pattern.startswith("/") or ".." in pattern.split("/") or set("?[" if banded else "*?[") & set(pattern):
            raise ValueError(f"'{pattern}' must be a path inside the folder, without ? and [, and * only with {{band}}")
        return pattern
