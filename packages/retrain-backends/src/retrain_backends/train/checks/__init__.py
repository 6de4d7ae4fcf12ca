"""Checks of a run without training: what it would do, what it would cost, how it would resume."""
