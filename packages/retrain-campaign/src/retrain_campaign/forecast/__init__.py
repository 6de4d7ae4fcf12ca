"""How long a campaign will take, estimated from earlier runs."""
