"""The promotion ledger (design 4.3): `promotions/<model>/<n>.json` decides who is champion.

Entries are written put-if-absent with n = last + 1, so that of two that promote at once one wins and the
other is told. Readers trust the ledger alone; registry aliases are its projection.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.store import Store


class Promotion(BaseModel):
    """One entry.

    Attributes:
        number: Its place in the ledger, from 1.
        version: The registered version that is champion from now on.
        model_digest: sha256 of its `model.onnx`.
        description_digest: sha256 of its `model.json`.
        reason: `bootstrap` (an index where there was no champion), `gate`, or `rollback`.
        evaluation: URI of the evaluation that the gate judged, None for a bootstrap.
        verdict: What the gate said, None for a bootstrap.
        time: When, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    model: str
    version: int
    model_digest: str
    description_digest: str
    reason: Literal["bootstrap", "gate", "rollback"]
    evaluation: str | None = None
    verdict: dict[str, object] | None = None
    time: datetime

    @property
    def uri(self) -> str:
        """`models:/<name>/<version>`."""
        return f"models:/{self.model}/{self.version}"


class Ledger:
    """The promotions of one registered model.

    Args:
        store: Where they lie.
        model: The registered model's name.
    """

    def __init__(self, store: Store, model: str) -> None:
        self._store = store
        self.model = model

    def entries(self) -> list[Promotion]:
        """All entries, oldest first.

        Raises:
            DataRefused: If a number is missing: the ledger was edited by hand.
        """
        prefix = f"promotions/{self.model}"
        numbers = sorted(int(key.rsplit("/", 1)[1].removesuffix(".json")) for key in self._store.list(prefix))
        if numbers != list(range(1, len(numbers) + 1)):
            raise DataRefused(
                f"the ledger has entries {numbers}", where=self._store.resolve(prefix), fix="Restore the missing ones"
            )
        return [Promotion.model_validate(self._store.get_json(f"{prefix}/{n}.json")) for n in numbers]

    def champion(self) -> Promotion | None:
        """The newest entry; None where there is none yet."""
        entries = self.entries()
        return entries[-1] if entries else None

    def previous(self) -> Promotion | None:
        """The newest entry of another version than the champion's; None where there is none."""
        entries = self.entries()
        return next((e for e in reversed(entries) if e.version != entries[-1].version), None)

    def append(
        self,
        *,
        after: int,
        version: int,
        model_digest: str,
        description_digest: str,
        reason: Literal["bootstrap", "gate", "rollback"],
        evaluation: str | None = None,
        verdict: dict[str, object] | None = None,
    ) -> Promotion:
        """Write the entry `after + 1`.

        Args:
            after: The newest number that the caller has judged against, 0 for an empty ledger.
            version: The registered version that becomes champion.
            model_digest: sha256 of its `model.onnx`.
            description_digest: sha256 of its `model.json`.
            reason: Why.
            evaluation: URI of the evaluation that was judged.
            verdict: What the gate said.

        Raises:
            TemporaryFailure: If someone else wrote that entry meanwhile; judging anew may succeed.
        """
        entry = Promotion(
            number=after + 1,
            model=self.model,
            version=version,
            model_digest=model_digest,
            description_digest=description_digest,
            reason=reason,
            evaluation=evaluation,
            verdict=verdict,
            time=datetime.now(UTC),
        )
        key = f"promotions/{self.model}/{entry.number}.json"
        if not self._store.put_json_new(key, entry.model_dump(mode="json")):
            raise TemporaryFailure(
                f"another promotion of '{self.model}' took entry {entry.number}",
                where=self._store.resolve(key),
                fix="Evaluate against the new champion and promote again",
            )
        return entry
