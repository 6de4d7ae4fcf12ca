r"""The answer in a text's `\boxed{...}`, the convention of mathematical benchmarks."""

import re

# An escaped brace is a printed character and opens no group. An escape does not include the
# backslash of a box that follows, so that boxes are found in text with doubled backslashes.
_BOX = r"\\boxed\s*\{"
_MARK = re.compile(rf"(?P<box>{_BOX})|\\(?!{_BOX}).|[{{}}]", re.DOTALL)
_FIRST = re.compile(_BOX)


def extract_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` with balanced braces, trimmed.

    Space and a line break may precede the brace, as in TeX. One pass with a stack of open groups,
    in time linear in the text for any nesting of braces. The last box is the one that starts last:
    of nested boxes, the inner one.

    Args:
      text: a completion or a worked solution.

    Returns:
      The answer, "" for an empty box; None if there is none. A box that is not closed is not an
      answer, nor is `\boxed 5` without braces or `\fbox{5}`.
    """
    opened: list[int | None] = []  # start of a box's content, None for another group
    last: tuple[int, int] | None = None
    # Braces before the first box are irrelevant.
    first = _FIRST.search(text)
    for mark in _MARK.finditer(text, first.start()) if first else ():
        if mark["box"]:
            opened.append(mark.end())
        elif mark[0] == "{":
            opened.append(None)
        elif mark[0] == "}" and opened:
            start = opened.pop()
            if start is not None and (last is None or start > last[0]):
                last = (start, mark.start())
    return None if last is None else text[slice(*last)].strip()
