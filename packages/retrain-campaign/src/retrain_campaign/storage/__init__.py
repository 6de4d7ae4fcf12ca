"""What a campaign keeps: its directory, the manifest and the results of its runs."""
