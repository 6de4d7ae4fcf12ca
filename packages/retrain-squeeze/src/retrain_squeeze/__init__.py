"""LoRA-Squeeze: the rank that a trained adapter really needs, and its compression to that rank.

This version holds the package's name and version only; the analysis comes in a later one.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
