"""The files of a run: its directory, checkpoints, state file and metadata."""
