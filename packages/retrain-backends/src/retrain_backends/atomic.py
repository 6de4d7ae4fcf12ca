"""A file that is replaced whole or not at all, also when the machine loses its power."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by another text; at every moment it holds the old one or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    flush(partial)
    partial.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Have the operating system write a file, or a directory's list of names, to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a directory, and needs not
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
