"""The embedded body: MLflow and the serving front as supervised processes on 127.0.0.1, SQLite, a folder as store.

Standard library only: it runs with the Python that runs nox, before anything is installed.
"""
