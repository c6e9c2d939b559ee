"""Which kind of source a URI is, and what only some kinds can do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from eo_data.cli import main
from eo_data.errors import UsageError
from eo_data.provenance import git_commit
from eo_data.sources import open_source
from eo_data.sources.folder import FolderSource
from eo_data.sources.prefix import PrefixSource
from eo_data.sources.stac import StacSource
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import ROOT

WATER = UseCase.load(str(ROOT / "usecases" / "water"))


def test_a_folder_and_a_prefix_are_known_by_their_uri(tmp_path: Path) -> None:
    for uri in (str(tmp_path), tmp_path.as_uri(), f"{tmp_path}/"):
        assert isinstance(open_source(uri, WATER.data), FolderSource)
    source = open_source("s3://bucket/some/pairs/", WATER.data)
    assert isinstance(source, PrefixSource)
    assert source.name == "pairs"
    assert open_source("s3://bucket", WATER.data).name == "bucket"


def test_a_catalog_beside_pairs_describes_them_and_alone_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "collection.json").write_text(
        '{"type": "Collection", "stac_version": "1.1.0", "id": "pairs", "description": "x", "license": "other", '
        '"extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, '
        '"temporal": {"interval": [[null, null]]}}, "links": []}'
    )
    assert isinstance(open_source(str(tmp_path), WATER.data), StacSource)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.tif").write_bytes(b"")
    assert isinstance(open_source(str(tmp_path), WATER.data), FolderSource)
    assert isinstance(open_source(str(tmp_path / "collection.json"), WATER.data), StacSource)
    assert isinstance(open_source(str(tmp_path), WATER.data, datetime="2020-01-01"), StacSource)


@pytest.mark.parametrize("uri", ["gs://bucket/pairs", "ftp://127.0.0.1/pairs", "az://container"])
def test_an_unknown_kind_is_told_which_are_known(uri: str) -> None:
    with pytest.raises(UsageError, match="is no kind of source") as refusal:
        open_source(uri, WATER.data)
    assert uri in str(refusal.value)
    assert all(kind in refusal.value.fix for kind in ("a folder", "s3://BUCKET/PREFIX", "STAC API"))


@pytest.mark.parametrize(
    ("how", "flag"),
    [
        ({"bbox": (0.0, 0.0, 1.0, 1.0)}, "--bbox"),
        ({"datetime": "2020-01-01"}, "--datetime"),
        ({"collections": ["sentinel-2-l2a"]}, "--collections"),
        ({"limit": 3}, "--limit"),
    ],
)
@pytest.mark.parametrize("uri", ["{root}", "s3://bucket/pairs"])
def test_a_folder_cannot_choose_by_what_only_items_say(
    tmp_path: Path, how: dict[str, Any], flag: str, uri: str
) -> None:
    with pytest.raises(UsageError, match=f"{flag}: only a STAC source"):
        open_source(uri.format(root=tmp_path), WATER.data, **how)


def test_the_commands_flags_reach_the_source(tmp_path: Path, store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["ingest", "--usecase", "water", "--store", store.uri, "--source", str(tmp_path)]
    for flags in (
        ["--bbox", "-1", "40", "1", "41.5"],
        ["--datetime", "2020-01-01/.."],
        ["--collections", "a", "b"],
        ["--limit", "2"],
    ):
        assert main([*command, *flags]) == 2
        assert f"{flags[0]}: only a STAC source can choose by this" in capfd.readouterr().err


def test_a_git_that_does_not_answer_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*arguments: Any, **_: Any) -> Any:
        raise subprocess.TimeoutExpired(arguments[0], 10)

    monkeypatch.setattr(subprocess, "run", slow)
    assert git_commit() is None
