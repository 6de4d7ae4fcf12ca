"""The output of a run: its directory, log files, trackers, console and learning curve."""
