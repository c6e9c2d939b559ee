"""`promote`: the gate judges an evaluation once; the ledger says who is champion, the registry's aliases follow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from eo_data.errors import DataRefused, GateRefused, UsageError
from eo_data.model.files import fetch_model, parse_model_uri
from eo_data.model.ledger import Ledger, Promotion
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_models.configuration import GateSection, gate_section
from eo_models.evaluation_record import Evaluation, VerdictRecord
from eo_models.gate import Judgement, Opponent, judge
from eo_models.registry import Registry, Version

log = logging.getLogger(__name__)


def promote(store: Store, usecase: UseCase, uri: str, *, approved_by: str | None = None) -> dict[str, Any]:
    """Judge an evaluation, and move the champion if the gate says so.

    Order of writing: the ledger's entry first, since it alone decides; then the record of the verdict, then the
    aliases. Whoever is killed in between has promoted, and the next call repairs the rest.

    Args:
        store: Where evaluation and ledger lie.
        usecase: Its `gate` section judges.
        uri: The evaluation.
        approved_by: Who approves, where `gate.approval` asks for a person; recorded in the ledger's verdict.

    Returns:
        The step's result: `gate`, `champion`, `previous` and `entry`.

    Raises:
        GateRefused: If the gate refuses, or waits for approval, with the result. A wait is not recorded as a verdict.
        UsageError: If the champion has changed since the evaluation, or the gate would promote a version of another
            use case's model.
        TemporaryFailure: If someone else promoted meanwhile, or store or registry do not answer.
    """
    section = gate_section(usecase)
    key = store.key(uri).removesuffix("/evaluation.json")
    evaluation = store.get_record(f"{key}/evaluation.json", Evaluation)
    if evaluation.usecase != usecase.name:
        raise UsageError(
            f"this is an evaluation of use case '{evaluation.usecase}'", where=uri, fix="Name that --usecase"
        )
    ledger, registry = Ledger(store, usecase.name), Registry(usecase.name)
    champion = ledger.champion()
    if champion is None:
        raise DataRefused(f"the ledger of '{usecase.name}' is empty", where=store.uri, fix="Run train first")
    record = f"{key}/verdict-{usecase.digest('gate')[:16]}.json"
    judgement = _settled(store, record, evaluation, ledger.entries(), f"{key}/evaluation.json")
    if judgement is None:
        if evaluation.champion.digests != _digests(champion):
            raise UsageError(
                f"the champion is {champion.uri} now, this evaluation was against {evaluation.champion.uri}",
                where=uri,
                fix="Run evaluate again: it compares with the present champion",
            )
        judgement = judge_evaluation(evaluation, section)
        approval = {"approved_by": approved_by.strip()} if approved_by and approved_by.strip() else {}
        if judgement.verdict == "promoted":
            if section.approval == "required" and not approval:
                return _conclude(ledger, registry, champion, _waiting(judgement))
            version = evaluated_version(registry, evaluation)
            verdict = {**judgement.as_json(), **approval}
            champion = _promote(store, ledger, champion, version, f"{key}/evaluation.json", verdict)
        store.put_json_new(record, {**judgement.as_json(), **approval, "gate": section.model_dump(mode="json")})
    return _conclude(ledger, registry, champion, judgement)


def judge_evaluation(evaluation: Evaluation, section: GateSection) -> Judgement:
    """What the gate says of an evaluation's holdout."""
    pooled = evaluation.splits["holdout"].pooled
    opponents = {role: Opponent(pooled[role].iou, interval) for role, interval in evaluation.comparisons.items()}
    if evaluation.index.digests == evaluation.champion.digests:
        opponents = {"index, which is champion": opponents["index"]}
    judgement = judge(pooled["candidate"].iou, opponents, evaluation.holdout_cells_with_target, section)
    faults = [
        f"{'could not be asked' if check.passed is None else 'fails'} '{check.name}': {check.detail}"
        for check in evaluation.behaviour
        if not check.passed
    ]
    if section.behaviour == "report" or not faults:
        return judgement
    against = judgement.reasons if judgement.verdict == "refused" else ()
    return Judgement("refused", (*against, *faults))


def _waiting(judgement: Judgement) -> Judgement:
    reason = "waiting for approval: the gate would promote it, gate.approval asks for a person (--approved-by NAME)"
    return Judgement("refused", (reason, *judgement.reasons))


def evaluated_version(registry: Registry, evaluation: Evaluation) -> Version:
    """The version that was evaluated: the one that is named, else the newest with the same bytes.

    A version is its two digests; a registry that was set up anew counts its versions anew.

    Raises:
        UsageError: If it is a version of another use case's model.
        DataRefused: If no version has these bytes.
    """
    wanted = evaluation.candidate.digests
    same = [version for version in registry.versions() if (version.digest, version.description_digest) == wanted]
    name = parse_model_uri(evaluation.candidate.uri or "")[0]
    if not same and name != registry.name:
        raise UsageError(
            f"the gate would promote it, but it is a version of '{name}', and the ledger of '{registry.name}' names "
            "versions of that model alone",
            where=str(evaluation.candidate.uri),
            fix=f"Train under use case '{registry.name}'",
        )
    if not same:
        raise DataRefused(
            "no registered version has the two digests that were evaluated, "
            f"{evaluation.candidate.digest[:12]} and {str(evaluation.candidate.description_digest)[:12]}",
            where=registry.name,
            fix="Train again on this dataset: equal inputs give equal bytes; then evaluate again",
        )
    return next((v for v in same if v.uri == evaluation.candidate.uri), max(same, key=lambda v: v.number))


def _settled(
    store: Store, record: str, evaluation: Evaluation, entries: Sequence[Promotion], key: str
) -> Judgement | None:
    """A no-op where nothing is left to judge; None where there is."""
    champion = entries[-1]
    if evaluation.candidate.digest == champion.model_digest:  # the same graph from another commit is no news
        return Judgement("no-op", (f"{evaluation.candidate.uri} is the champion already ({champion.uri})",))
    if store.exists(record):
        earlier = store.get_record(record, VerdictRecord)
        return Judgement("no-op", (f"judged before: {earlier.verdict}", *earlier.reasons))
    promoted = next((entry for entry in entries if entry.evaluation == store.resolve(key)), None)
    if promoted is not None:  # whoever promoted it was stopped before the verdict was recorded
        return Judgement("no-op", (f"judged before: promoted, entry {promoted.number} of the ledger",))
    return None


def _digests(entry: Promotion) -> tuple[str, str]:
    return entry.model_digest, entry.description_digest


def _promote(
    store: Store,
    ledger: Ledger,
    champion: Promotion,
    version: Version,
    key: str,
    verdict: dict[str, object],
) -> Promotion:
    files = fetch_model(version.uri, store)  # both digests, against the registry's tags and the ledger
    return ledger.append(
        after=champion.number,
        version=files.version,
        model_digest=files.digest,
        description_digest=files.description_digest,
        reason="gate",
        evaluation=store.resolve(key),
        verdict=verdict,
    )


def _conclude(ledger: Ledger, registry: Registry, champion: Promotion, judgement: Judgement) -> dict[str, Any]:
    """Repair the aliases and say what came of it."""
    standing, previous = ledger.standing()
    now = standing or champion  # someone else may have promoted since
    registry.project_aliases(now.version, previous.version if previous else None)
    result = {
        "gate": judgement.as_json(),
        "champion": now.uri,
        "previous": previous.uri if previous else None,
        "entry": champion.number if judgement.verdict == "promoted" else None,
    }
    for reason in judgement.reasons:
        log.info("promote: %s: %s", judgement.verdict, reason)
    if judgement.verdict == "refused":
        raise GateRefused(
            f"the gate refused the candidate: {'; '.join(judgement.reasons)}",
            result=result,
            fix=f"{now.uri} goes on serving",
        )
    return result
