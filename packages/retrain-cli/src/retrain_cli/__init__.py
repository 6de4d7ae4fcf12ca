"""The `retrain` command: parse, call one library function, render."""

__version__ = "0.1.0"
__all__ = ["__version__"]
