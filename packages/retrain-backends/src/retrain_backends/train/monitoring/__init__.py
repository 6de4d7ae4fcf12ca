"""Checks of the figures of a run and of its sampler."""
