"""The memory of this machine, and sizes in words."""

import os

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def machine_memory() -> int | None:
    """Bytes of physical memory; None where the system does not report it."""
    names = getattr(os, "sysconf_names", {})  # Windows has none
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def size_text(number: float) -> str:
    """A number of bytes with a unit: `8.3 GB`."""
    for unit in _UNITS:
        number /= 1000
        if number < 1000:
            return f"{number:.3g} {unit}"
    return f"{number:.3g} {_UNITS[-1]}"
