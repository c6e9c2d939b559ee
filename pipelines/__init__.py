"""The steps as one table and what runs them: child processes (standard library only), or Airflow's DAGs."""
