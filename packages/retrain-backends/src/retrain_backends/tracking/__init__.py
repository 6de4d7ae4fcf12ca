"""What a run leaves behind and shows while it goes: its directory, log files, console and curve."""
