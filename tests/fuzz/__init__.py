"""Damaged and hostile files for every reader; see `python -m tests.fuzz --help`."""
