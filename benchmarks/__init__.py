"""Benchmarks: `nox -s bench -- NAME`. Each is a module of this folder with `main(argv) -> exit code`."""
