from __future__ import annotations

from pathlib import Path

import pytest

from eo_models import code_identity
from eo_models.code_identity import code_identity as identity


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "some_package_of_ours"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "network.py").write_text("width = 8\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code_identity, "PACKAGES", (package.name,))
    return package


def test_a_clean_commit_is_all_that_counts(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_identity, "git_commit", lambda: "abc")
    assert identity() == "abc"


@pytest.mark.parametrize(("commit", "lead"), [("abc-dirty", "abc-dirty+"), (None, "no-commit+")])
def test_otherwise_the_sources_count(
    commit: str | None, lead: str, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_identity, "git_commit", lambda: commit)
    before = identity()
    assert before.startswith(lead)
    assert identity() == before
    (sources / "network.py").write_text("width = 16\n")
    assert identity() != before
