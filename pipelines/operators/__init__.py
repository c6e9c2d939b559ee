"""Steps as Airflow tasks, in the mode that the deployment says: `step` in Python, `StepOperator` in YAML.

A step is a command that leaves one JSON object (design 4.1). Operators know only how to start commands; what their
exit codes mean is said once, in `pipelines.operators.outcome`.
"""

from pipelines.operators.factory import StepOperator, step

__all__ = ["StepOperator", "step"]
