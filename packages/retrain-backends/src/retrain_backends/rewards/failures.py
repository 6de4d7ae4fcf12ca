"""Ends a run in which too many completions have no verdict."""

from collections import Counter
from collections.abc import Sequence

from retrain_backends.errors import RunError
from retrain_backends.types import Rollout, Verdict

NOT_JUDGED = Verdict(None, "not scored: too many others had no verdict")
_EXAMPLES = 3
_SHOWN = 60  # characters of a response or a reference


def refuse_failures(items: Sequence[Rollout], verdicts: Sequence[Verdict], allowed: float) -> None:
    """Raise RunError when more than `allowed` of the items have no verdict.

    The message has the most frequent reasons, each with the reference and the end of the response
    of one item.
    """
    failed = [
        (item, verdict.reason)
        for item, verdict in zip(items, verdicts, strict=True)
        if verdict.value is None and verdict is not NOT_JUDGED
    ]
    if len(failed) <= allowed:
        return
    reasons = Counter(reason for _, reason in failed)
    first = {reason: item for item, reason in reversed(failed)}
    shown = "; ".join(
        f"{count} x {reason} (such as reference {_end(first[reason].example.reference)}, response"
        f" {_end(first[reason].completion)})"
        for reason, count in reasons.most_common(_EXAMPLES)
    )
    raise RunError(
        f"reward: {len(failed)} of {len(items)} completions have no verdict, more than"
        f" reward.max_failure_rate allows: {shown}"
    )


def _end(text: str) -> str:
    """The end of a text, quoted on one line."""
    return repr(text if len(text) <= _SHOWN else "…" + text[-_SHOWN:])
