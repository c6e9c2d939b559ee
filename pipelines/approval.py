"""A person's word before a promotion, where the deployment asks for one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

TASK: Final = "approve"
APPROVER: Final = "{{ ((ti.xcom_pull(task_ids='approve') or {}).get('responded_by_user') or {}).get('id', '') }}"
"""Who approved, as a template; empty where nobody was asked."""

_BODY: Final = """{% set result = ti.xcom_pull(task_ids='evaluate') %}
| IoU on the test split | |
|---|---|
{% for name, value in result['iou'].items() %}| {{ name }} | {{ 'undefined' if value is none else '%.3f' % value }} |
{% endfor %}
Candidate `{{ result['model'] }}`, champion `{{ result['champion'] }}`. Report: `{{ result['evaluation'] }}`.
The gate judges on the holdout once you approve.
"""


def approval(hours: float) -> list[Any]:
    """The task that waits for a person, or none.

    It waits without a worker and without the triggerer; nobody's answer in time counts as a refusal.

    Args:
        hours: How long to wait; 0 asks nobody.
    """
    if not hours:
        return []
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    return [
        ApprovalOperator(
            task_id=TASK,
            subject="May {{ ti.xcom_pull(task_ids='evaluate')['model'] }} become champion?",
            body=_BODY,
            defaults=ApprovalOperator.REJECT,
            response_timeout=timedelta(hours=hours),
            retries=2,  # an answer within a tenth of a second of the question is lost by Airflow 3.3: it is asked again
            doc_md="Waits for a person; no answer in time means not promoted.",
        )
    ]
