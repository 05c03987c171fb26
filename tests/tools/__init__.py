"""Scripts for people who work on the tests: run them from `tests/` with `python -m tools.NAME`."""
