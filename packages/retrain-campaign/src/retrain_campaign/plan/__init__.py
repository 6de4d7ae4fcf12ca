"""The runs of a campaign: planned from its file and checked before anything is written."""
