"""Tokens: given, made, kept; never a placeholder, never none where others can ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from eo_data.errors import UsageError
from eo_serving.problem import Unauthorized
from eo_serving.tokens import Tokens, check_token, is_loopback

LONG = "a-token-of-some-length"


def obtain(state: Path, host: str = "127.0.0.1", anyone: bool = False, **environment: str) -> Tokens:
    return Tokens.obtain(state, host, anyone=anyone, environment=environment)


def test_a_token_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    first, second = obtain(tmp_path), obtain(tmp_path)
    assert first == second
    assert first.endpoint is not None
    assert len(first.endpoint) >= 32
    assert (tmp_path / "endpoint-token").stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    assert obtain(tmp_path / "other").endpoint != first.endpoint


def test_what_the_environment_gives_counts(tmp_path: Path) -> None:
    given = obtain(tmp_path, anyone=True, TERRALOOP_ENDPOINT_TOKEN=LONG, TERRALOOP_DEPLOY_TOKEN=LONG + "2")
    assert given == Tokens(LONG + "2", LONG)
    assert not (tmp_path / "endpoint-token").exists()


@pytest.mark.parametrize("token", ["changeme", "y" * 15, "with a space in it!", "nul\0" * 5, "é" * 20])
def test_placeholders_refuse_to_boot(tmp_path: Path, token: str) -> None:
    for name in ("TERRALOOP_ENDPOINT_TOKEN", "TERRALOOP_DEPLOY_TOKEN"):
        with pytest.raises(UsageError, match="at least 16") as caught:
            Tokens.obtain(tmp_path, "127.0.0.1", anyone=False, environment={name: token})
        assert caught.value.where == name
        assert token not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_open_on_loopback(tmp_path: Path, host: str) -> None:
    assert is_loopback(host)
    assert obtain(tmp_path, host, anyone=True) == Tokens()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "localhost.example"])  # noqa: S104
def test_open_to_a_network_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="could ask"):
        obtain(tmp_path, host, anyone=True)
    assert obtain(tmp_path, host).endpoint


def test_a_file_that_holds_no_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "endpoint-token").write_text("")
    with pytest.raises(UsageError, match="holds no token"):
        obtain(tmp_path)


@pytest.mark.parametrize("given", ["", LONG, f"bearer {LONG}", f"Bearer {LONG} ", f"Bearer {LONG}x", "Basic x", "é"])
def test_only_the_very_token_passes(given: str) -> None:
    check_token(f"Bearer {LONG}", LONG)
    with pytest.raises(Unauthorized):
        check_token(given, LONG)
