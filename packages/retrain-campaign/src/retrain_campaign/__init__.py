"""Campaigns: every learning rule under every seed, planned, run and compared.

This version holds the package's name and version only; campaigns come in a later one.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
