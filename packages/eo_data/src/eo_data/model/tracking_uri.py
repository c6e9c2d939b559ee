"""MLflow's tracking URI as people may see it: it can hold a password, and so can what MLflow says about it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

URI_VARIABLE: Final = "MLFLOW_TRACKING_URI"

_SQLITE: Final = "sqlite:///"
_HIDDEN: Final = "***"
_LONGEST_LINE: Final = 200
_SHORTEST_WORD: Final = 4
"""A shorter password is not looked for by itself: too much of a text would be taken for it."""


def public_uri(uri: str) -> str:
    """A tracking URI without user, password and query, a database's file by its full path."""
    if uri.startswith(_SQLITE):
        return f"{_SQLITE}{Path(uri.removeprefix(_SQLITE).partition('?')[0]).resolve()}"
    scheme, login, rest = _parts(uri)
    if re.search("[/?#]", login):  # SQLAlchemy takes such passwords; what is meant by the rest is then not sure
        rest = _HIDDEN
    return scheme + re.split("[?#]", rest, maxsplit=1)[0]


def said(error: Exception) -> str:
    """The first line of an error's text, without the secrets of the URI that `MLFLOW_TRACKING_URI` holds."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    uri = os.environ.get(URI_VARIABLE, "")
    if uri:
        line = line.replace(uri, public_uri(uri))
        _, login, rest = _parts(uri)
        query = rest.partition("?")[2]
        line = line.replace(f"{login}@", "") if login else line
        line = line.replace(f"?{query}", "") if query else line
        password = login.partition(":")[2]
        for word in {password, unquote(password)}:
            line = line.replace(word, _HIDDEN) if len(word) >= _SHORTEST_WORD else line
    return line[:_LONGEST_LINE]


def _parts(uri: str) -> tuple[str, str, str]:
    """The scheme with what parts it from the rest, `user:password`, and the rest."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        scheme, rest = "", uri
    login = re.match("([^/?#]*)@", rest) or re.match("([^/:]*:[^@]*)@", rest)
    return (scheme + separator, login[1], rest[login.end() :]) if login else (scheme + separator, "", rest)
