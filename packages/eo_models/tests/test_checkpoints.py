"""What a checkpoint holds, which one is taken, and what is said of one that cannot be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from eo_data.errors import UsageError
from eo_models.checkpoints import Checkpoints, default_folder, read_checkpoint
from eo_models.configuration import train_section
from eo_models.fit import Fitted, fit

from .conftest import World

IDENTITY = {"dataset": "d", "train": "t", "code": "c"}
CHANCE = {"epochs": 5, "dropout": 0.2, "augmentation": {"paste": 0.5}, "sampling": {"balance": 0.5}}


class Killed(Exception):
    """Stands for the end of a process: nothing runs after it."""


def fitted(world: World, checkpoints: Checkpoints | None, end: int | None = None) -> tuple[Fitted, list[float]]:
    told: list[float] = []

    def tell(epoch: int, figures: dict[str, float]) -> None:
        told.append(figures["loss"])
        if epoch == end:
            raise Killed

    section = train_section(world.usecase)
    return fit(world.dataset, section, [(1, 2)], tell, progress=False, checkpoints=checkpoints), told


def interrupted(world: World, folder: Path, end: int, identity: dict[str, str] = IDENTITY) -> None:
    with pytest.raises(Killed):
        fitted(world, Checkpoints(folder, identity, resume=False), end)


def assert_equal(first: Fitted, second: Fitted) -> None:
    weights = second.network.state_dict()
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert (first.epoch, first.epochs, first.loss) == (second.epoch, second.epochs, second.loss)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_training_that_goes_on_ends_like_an_unbroken_one(
    make_world: Callable[..., World], tmp_path: Path, keep: str
) -> None:
    world = make_world(train={**CHANCE, "keep": keep, "patience": 2})
    whole, figures = fitted(world, None)
    interrupted(world, tmp_path, 2)
    again, told = fitted(world, Checkpoints(tmp_path, IDENTITY, resume=True))
    assert again.resumed == 2
    assert told == figures
    assert_equal(again, whole)


def test_a_training_that_was_over_is_not_repeated(make_world: Callable[..., World], tmp_path: Path) -> None:
    world = make_world(train={**CHANCE, "epochs": 2})
    whole, figures = fitted(world, Checkpoints(tmp_path, IDENTITY, resume=False))
    again, told = fitted(world, Checkpoints(tmp_path, IDENTITY, resume=True))
    assert (again.resumed, told) == (2, figures)
    assert_equal(again, whole)


def test_a_checkpoint_holds_the_whole_state_and_only_two_are_kept(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world(train=CHANCE)
    interrupted(world, tmp_path, 4)
    folder = Checkpoints(tmp_path, IDENTITY, resume=True).folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "member-0-epoch-0003.ckpt",
        "member-0-epoch-0004.ckpt",
    ]
    content = read_checkpoint(folder / "member-0-epoch-0004.ckpt")
    assert content["global_step"] == 12
    assert content["optimizer_states"][0]["state"][0]["step"].item() == 12
    assert content["lr_schedulers"][0]["last_epoch"] == 12
    loader = content["Minibatches"]["loader"]
    assert (loader["epoch"], loader["delivered"]) == (3, 3)  # of its epochs from 0: each was loaded in its own order
    assert content["state_dict"]["average.n_averaged"].item() == 12
    assert len(content["callbacks"]["terraloop"]["history"]) == 4
    assert any("wait_count" in state for state in content["callbacks"].values())


def test_without_resume_what_is_left_is_named_and_left_alone_until_it_is_overtaken(
    make_world: Callable[..., World], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(train={**CHANCE, "epochs": 3})
    interrupted(world, tmp_path, 2)
    caplog.set_level(logging.INFO)
    anew = Checkpoints(tmp_path, IDENTITY, resume=False)
    anew.prepare()
    assert "--resume would go on" in caplog.text
    assert names(anew) == {"member-0-epoch-0001.ckpt", "member-0-epoch-0002.ckpt"}
    anew.release()
    interrupted(world, tmp_path, 1)
    found = Checkpoints(tmp_path, IDENTITY, resume=True).newest(0)
    assert found is not None
    assert found.epoch == 2  # of the first training: the second had not come as far
    again, told = fitted(world, anew)
    assert (again.resumed, len(told)) == (0, 3)
    assert names(anew) == {"member-0-epoch-0002.ckpt", "member-0-epoch-0003.ckpt"}


def names(kept: Checkpoints) -> set[str]:
    return {path.name for path in kept.folder.glob("*.ckpt")}


def test_what_was_left_goes_when_a_training_has_come_as_far(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, IDENTITY, resume=False)
    kept.prepare()
    for member, epoch in ((0, 8), (1, 2)):
        kept.path(member, epoch).touch()
    (kept.folder / ".member-1-epoch-0003.ckpt.unfinished").touch()
    expected = {(0, 7): {(0, 7), (0, 8), (1, 2)}, (0, 9): {(0, 7), (0, 9), (1, 2)}, (1, 3): {(0, 7), (0, 9), (1, 3)}}
    for (member, epoch), left in expected.items():
        kept.path(member, epoch).touch()
        kept.written(kept.path(member, epoch), member)
        assert {path.name for path in kept.folder.iterdir()} == {".lock", *(kept.path(*one).name for one in left)}
    kept.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_of_the_same_training_keeps_nothing_and_removes_nothing(
    make_world: Callable[..., World], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A lock is of who opened the file: two in one process stand for two processes."""
    world = make_world(train={**CHANCE, "epochs": 1})
    first = Checkpoints(tmp_path, IDENTITY, resume=False)
    first.prepare()
    first.path(0, 4).touch()
    second = Checkpoints(tmp_path, IDENTITY, resume=True)
    second.prepare()
    assert "no checkpoints, another process trains the same now" in caplog.text
    again, _ = fitted(world, second)
    assert (again.epochs, again.resumed) == (1, 0)
    second.remove()
    Checkpoints(tmp_path, IDENTITY, resume=False).remove()  # of a training that was registered before
    assert names(first) == {"member-0-epoch-0004.ckpt"}
    first.release()
    second.remove()
    assert not first.folder.exists()


def test_a_truncated_checkpoint_is_named_and_the_one_before_is_taken(
    make_world: Callable[..., World], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(train={**CHANCE, "epochs": 3})
    interrupted(world, tmp_path, 2)
    kept = Checkpoints(tmp_path, IDENTITY, resume=True)
    newest, before = kept.path(0, 2), kept.path(0, 1)
    newest.write_bytes(newest.read_bytes()[:-1000])
    found = kept.newest(0)
    assert found is not None
    assert (found.path, found.epoch) == (before, 1)
    assert f"{newest} cannot be used: it is truncated or damaged" in caplog.text
    content = bytearray(before.read_bytes())
    content[len(content) // 2] ^= 255  # one bit of a weight would go unseen, but for the checksum
    before.write_bytes(content)
    assert kept.newest(0) is None
    assert "member 1 begins anew" in caplog.text
    again, told = fitted(world, kept)
    assert (again.resumed, len(told)) == (0, 3)


def test_another_trainings_checkpoint_is_never_taken(
    make_world: Callable[..., World], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(train={**CHANCE, "epochs": 2})
    interrupted(world, tmp_path, 1)
    other = Checkpoints(tmp_path, {**IDENTITY, "train": "another"}, resume=True)
    assert other.newest(0) is None
    other.folder.mkdir()
    mine = Checkpoints(tmp_path, IDENTITY, resume=True).path(0, 1)
    other.path(0, 1).write_bytes(mine.read_bytes())  # by hand
    assert other.newest(0) is None
    assert "another dataset, configuration or code" in caplog.text
    other.path(1, 1).write_bytes(mine.read_bytes())
    assert other.newest(1) is None


def test_a_checkpoint_runs_no_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return (Path.touch, (tmp_path / "sprung",))

    kept = Checkpoints(tmp_path, IDENTITY, resume=True)
    kept.prepare()
    torch.save({"callbacks": {"terraloop": {"identity": IDENTITY, "member": 0, "trap": Trap()}}}, kept.path(0, 1))
    assert kept.newest(0) is None
    assert "cannot be read" in caplog.text
    assert not (tmp_path / "sprung").exists()
    kept.release()


def test_a_folder_that_cannot_be_written_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--checkpoints"):
        Checkpoints(tmp_path / "file", IDENTITY, resume=False).prepare()


def test_a_disk_that_fills_costs_the_checkpoint_not_the_training(
    make_world: Callable[..., World], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(train={**CHANCE, "epochs": 1})
    kept = Checkpoints(tmp_path / "file", IDENTITY, resume=False)
    (tmp_path / "file").write_text("")
    again, _ = fitted(world, kept)
    assert again.epochs == 1
    assert "no checkpoint of this epoch" in caplog.text


def test_the_folder_is_the_one_named_else_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TERRALOOP_CHECKPOINTS", "/some/where")
    assert default_folder() == Path("/some/where")
    monkeypatch.delenv("TERRALOOP_CHECKPOINTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "terraloop" / "checkpoints"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_folder() == Path("/home/somebody/.cache/terraloop/checkpoints")
