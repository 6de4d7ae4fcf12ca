"""The name that was probably meant."""

from collections.abc import Sequence
from difflib import get_close_matches


def nearest(wanted: str, names: Sequence[str]) -> str | None:
    """The most similar of `names`, or None when none is similar enough to be worth a mention."""
    by_lower = {name.lower(): name for name in names}
    found = get_close_matches(wanted.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(wanted: str, names: Sequence[str], form: str = "{}") -> str:
    """`; did you mean X?` with the nearest of `names` in `form`, or nothing."""
    found = nearest(wanted, names)
    return f"; did you mean {form.format(found)}?" if found else ""
