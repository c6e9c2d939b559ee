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
            DataRefused: If an entry is missing or strange: the ledger was edited by hand.
        """
        prefix = f"promotions/{self.model}"
        names = {key.removeprefix(f"{prefix}/") for key in self._store.list(prefix)}
        wanted = [f"{number}.json" for number in range(1, len(names) + 1)]
        strange = sorted(names.symmetric_difference(wanted))
        if strange:
            raise DataRefused(
                f"the ledger's entries are not 1 to {len(names)}: {', '.join(strange[:5])} missing or strange",
                where=self._store.resolve(prefix),
                fix="Restore what is missing and remove what is strange",
            )
        return [self._store.get_record(f"{prefix}/{name}", Promotion) for name in wanted]

    def champion(self) -> Promotion | None:
        """The newest entry; None where there is none yet."""
        entries = self.entries()
        return entries[-1] if entries else None

    def previous(self) -> Promotion | None:
        """The newest entry of another version than the champion's; None where there is none."""
        return self.standing()[1]

    def standing(self) -> tuple[Promotion | None, Promotion | None]:
        """Champion and previous, of one reading of the ledger: together they are true."""
        entries = self.entries()
        if not entries:
            return None, None
        return entries[-1], next((e for e in reversed(entries) if e.version != entries[-1].version), None)

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
            DataRefused: If the entry `after` is not there: a gap would end the ledger.
        """
        if after and not self._store.exists(f"promotions/{self.model}/{after}.json"):
            raise DataRefused(
                f"the ledger has no entry {after} to follow",
                where=self._store.resolve(f"promotions/{self.model}"),
                fix="Read the ledger again",
            )
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
