"""Steps as Airflow tasks: `step` makes one, in the mode that the deployment says. DAG files use nothing else of this.

A step is a command that leaves one JSON object (design 4.1). Operators know only how to start commands; what their
exit codes mean is said once, in `pipelines.operators.outcome`.
"""

from pipelines.operators.factory import step

__all__ = ["step"]
