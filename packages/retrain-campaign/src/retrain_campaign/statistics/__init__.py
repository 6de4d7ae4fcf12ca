"""The statistics of a declared comparison: pure functions on the outcomes of runs."""
