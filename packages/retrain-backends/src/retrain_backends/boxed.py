r"""The answer that a text puts in `\boxed{...}`, the convention of mathematical benchmarks."""

import re

# An escaped brace is a printed character and opens no group. An escape never swallows the
# backslash of a following box, so that text whose backslashes were doubled still has its boxes.
_MARK = re.compile(r"(?P<box>\\boxed\{)|\\(?!\\boxed\{).|[{}]", re.DOTALL)


def extract_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` with balanced braces, trimmed.

    One pass with a stack of open groups, so the time is linear in the text however its braces are
    nested. "Last" is by where a box begins: of a box inside a box the inner one counts.

    Args:
      text: a completion or a worked solution.

    Returns:
      The answer, which is "" for an empty box; None when no box closes. A box that never closes
      is no answer, nor is `\boxed 5` without braces or `\fbox{5}`.

    Source: MATHS.md 11.
    """
    opened: list[int | None] = []  # where the content of a box starts, None for another group
    last: tuple[int, int] | None = None
    # What stands before the first box opens and closes no box.
    first = text.find("\\boxed{")
    for mark in _MARK.finditer(text, first) if first >= 0 else ():
        if mark["box"]:
            opened.append(mark.end())
        elif mark[0] == "{":
            opened.append(None)
        elif mark[0] == "}" and opened:
            start = opened.pop()
            if start is not None and (last is None or start > last[0]):
                last = (start, mark.start())
    return None if last is None else text[slice(*last)].strip()
