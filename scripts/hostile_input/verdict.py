"""What is wrong with the answer of a command."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from hostile_input.case import Case

_LONGEST_LINE = 1100


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code (None: it did not end), stdout, stderr."""

    code: int | None
    output: str
    errors: str


def answer_of(outcome: Outcome) -> str:
    """What the command did, if nothing is wrong with that."""
    return {0: "accepted", 1: "failed with a reason"}.get(outcome.code or 0, "refused")


def problem_of(case: Case, outcome: Outcome) -> str:
    """What is wrong with the outcome; empty if nothing is."""
    if outcome.code is None:
        return "no end"
    if outcome.code < 0:
        return f"killed by {signal.Signals(-outcome.code).name}"
    if "Traceback (most recent call last)" in outcome.output + outcome.errors:
        return f"traceback ({outcome.errors.strip().splitlines()[-1][:100]})"
    if outcome.code == 0:
        return "accepted, although it is wrong" if case.valid is False else ""
    if outcome.code not in (2, *case.codes):
        return f"exit code {outcome.code}"
    return _problem_of_refusal(case, outcome)


def _problem_of_refusal(case: Case, outcome: Outcome) -> str:
    lines = [line for line in outcome.errors.split("\n") if line]
    if case.valid is True:
        return "refused, although it is right"
    if any(not line.startswith(("error: ", "warning: ")) for line in lines):
        return "a line that is no error"
    _, _, of_page = outcome.output.partition("This run would be refused:")
    lines += [line for line in of_page.split("\n") if line]
    if not lines and not case.silent:
        return "refused without a message"
    return _problem_of_lines(case, lines)


def _problem_of_lines(case: Case, lines: Sequence[str]) -> str:
    if any(len(line) > _LONGEST_LINE for line in lines):
        return f"a line longer than {_LONGEST_LINE} characters"
    if any(not line.replace("\t", " ").isprintable() for line in lines):
        return "a line with control characters"
    if case.named and not any(name in line for name in case.named for line in lines):
        return f"the message names none of {', '.join(case.named)}"
    return ""
