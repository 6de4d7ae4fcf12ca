"""Writing files atomically, so that even a power failure leaves the old text or the new one."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace the text of a file; a reader sees either the old text or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    flush(partial)
    partial.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Flush a file, or the entries of a directory, from the operating system to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a directory, and need not
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
