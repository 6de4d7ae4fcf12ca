"""What a campaign prints while it runs: a live table on a terminal, lines elsewhere."""
