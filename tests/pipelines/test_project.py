"""Where a project's things lie, and what is said about a call that cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import project
from pipelines.project import Misuse, find


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TERRALOOP_STORE", raising=False)
    monkeypatch.delenv("TERRALOOP_USECASES", raising=False)
    monkeypatch.delenv(project.CALLED_FROM, raising=False)


def test_everything_lies_in_the_projects_folder(tmp_path: Path) -> None:
    found = find(tmp_path, "demo")
    assert found.folder == tmp_path / ".terraloop" / "demo"
    assert found.store == (found.folder / "store").as_uri()
    assert found.owns_store
    assert not found.folder.exists()


def test_a_store_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRALOOP_STORE", str(tmp_path / "elsewhere"))
    found = find(tmp_path, "demo")
    assert found.store == (tmp_path / "elsewhere").as_uri()
    assert not found.owns_store


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", "-a", "a" * 64])
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(Misuse, match="lower-case letters"):
        find(tmp_path, name)


def test_one_kind_of_run_to_a_project(tmp_path: Path) -> None:
    found = find(tmp_path, "demo")
    found.claim("stack")
    found.claim("stack")
    with pytest.raises(Misuse, match="made by `nox -s stack`"):
        found.claim("pipeline")


def test_one_run_at_a_time(tmp_path: Path) -> None:
    found = find(tmp_path, "demo")
    found.claim("pipeline")
    with found.alone(), pytest.raises(Misuse, match="under way"), found.alone():
        raise AssertionError("two runs at once")
    with found.alone():
        pass


def test_paths_are_relative_to_where_the_command_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scenes").mkdir()
    monkeypatch.setenv(project.CALLED_FROM, str(tmp_path))
    assert project.as_uri("../x") == (tmp_path.parent / "x").as_uri()
    assert project.as_uri("s3://bucket/x/") == "s3://bucket/x"
    assert project.as_source("scenes") == (tmp_path / "scenes").as_uri()
    assert project.as_source("s3://bucket") == "s3://bucket"
    assert project.as_source(None) is None
    with pytest.raises(Misuse, match="--scenes nowhere: there is nothing at"):
        project.as_source("nowhere")


def test_use_cases_are_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("usecases/water", "mine/snow"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "usecase.yaml").touch()
    monkeypatch.setenv(project.CALLED_FROM, str(tmp_path))
    assert project.as_usecase("water", tmp_path) == "water"
    assert project.usecase_file("water", tmp_path) == tmp_path / "usecases/water/usecase.yaml"
    assert project.as_usecase("mine/snow", tmp_path) == str(tmp_path / "mine" / "snow")
    for path in (tmp_path / "mine/snow", tmp_path / "mine/snow/usecase.yaml"):
        assert project.usecase_file(str(path), tmp_path) == tmp_path / "mine/snow/usecase.yaml"
    with pytest.raises(Misuse, match="there are water"):
        project.as_usecase("snow", tmp_path)
    with pytest.raises(Misuse, match="there is nothing at"):
        project.as_usecase("./snow", tmp_path)
    monkeypatch.setenv("TERRALOOP_USECASES", str(tmp_path / "mine"))
    assert project.as_usecase("snow", tmp_path) == "snow"
    assert project.usecase_file("snow", tmp_path) == tmp_path / "mine/snow/usecase.yaml"
    assert project.usecase_file("water", tmp_path) == tmp_path / "usecases/water/usecase.yaml"
