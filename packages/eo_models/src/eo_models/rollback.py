"""`rollback`: one more ledger entry that makes an earlier champion champion again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from eo_data.errors import DataRefused, UsageError
from eo_data.model.files import fetch_model
from eo_data.model.ledger import Ledger, Promotion
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_models.registry import Registry

log = logging.getLogger(__name__)


def rollback(store: Store, usecase: UseCase, reason: str, to: int | None = None) -> dict[str, Any]:
    """Make `previous`, or a version that was champion before, champion; the ledger first, then the aliases.

    Args:
        store: Where the ledger lies.
        usecase: Whose model.
        reason: Why, in words; recorded in the entry's verdict.
        to: The version; the one before the champion's where none is given. Naming the champion itself changes
            nothing and repairs the aliases.

    Returns:
        The step's result: `champion`, `previous`, `entry` (None where nothing changed) and `reason`.

    Raises:
        UsageError: If the version was never champion, or there is none before.
        DataRefused: If its files are not those that the ledger promoted.
        TemporaryFailure: If someone else wrote an entry meanwhile, or store or registry do not answer.
    """
    if not reason.strip():
        raise UsageError("a rollback needs a reason", where="--reason", fix="Say in words why")
    ledger, registry = Ledger(store, usecase.name), Registry(usecase.name)
    entries = ledger.entries()
    if not entries:
        raise DataRefused(f"the ledger of '{usecase.name}' is empty", where=store.uri, fix="Run train first")
    champion = entries[-1]
    number = None
    if to != champion.version:
        target = _target(ledger, entries, to)
        files = fetch_model(target.uri, store)  # both digests, against the registry's tags and the ledger
        champion = ledger.append(
            after=champion.number,
            version=files.version,
            model_digest=files.digest,
            description_digest=files.description_digest,
            reason="rollback",
            verdict={"verdict": "rollback", "reasons": [reason], "from": champion.uri},
        )
        number = champion.number
    standing, previous = ledger.standing()
    now = standing or champion  # someone else may have written since
    registry.project_aliases(now.version, previous.version if previous else None)
    log.info("rollback: %s is champion", now.uri)
    return {
        "champion": now.uri,
        "previous": previous.uri if previous else None,
        "entry": number,
        "reason": reason,
    }


def _target(ledger: Ledger, entries: Sequence[Promotion], to: int | None) -> Promotion:
    if to is None:
        previous = ledger.previous()
        if previous is None:
            raise UsageError(
                f"no other version than {entries[-1].uri} was ever champion", where="rollback", fix="Promote one"
            )
        return previous
    found = next((entry for entry in reversed(entries) if entry.version == to), None)
    if found is None:
        known = ", ".join(str(version) for version in sorted({entry.version for entry in entries}))
        raise UsageError(
            f"version {to} of '{ledger.model}' was never champion",
            where="--to",
            fix=f"Choose among {known}; others become champion by evaluate and promote",
        )
    return found
