"""The running of a campaign: starting, retrying and stopping its runs."""
