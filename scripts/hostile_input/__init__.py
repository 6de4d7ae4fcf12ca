"""Damaged and hostile input for the commands, as cases; see `input_harness.py`."""
