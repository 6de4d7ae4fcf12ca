"""What a run keeps: its directory, checkpoints, state file and metadata."""
