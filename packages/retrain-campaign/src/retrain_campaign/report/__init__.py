"""What a campaign has done: its status, the comparison of conditions and their curves."""
