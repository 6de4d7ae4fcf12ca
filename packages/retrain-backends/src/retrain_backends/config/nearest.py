"""Suggestions for misspelt names."""

from collections.abc import Sequence
from difflib import get_close_matches


def nearest(wanted: str, names: Sequence[str]) -> str | None:
    """The most similar of `names`, or None if none is similar enough."""
    by_lower = {name.lower(): name for name in names}
    matches = get_close_matches(wanted.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def did_you_mean(wanted: str, names: Sequence[str], form: str = "{}") -> str:
    """`; did you mean X?` with the nearest of `names` in `form`; empty if there is none."""
    name = nearest(wanted, names)
    return f"; did you mean {form.format(name)}?" if name else ""
