r"""Made-up solutions of arithmetic questions, of the two kinds that the tiny model is taught.

quick   \boxed{75}                          no carry: right only where there is none
worked  let me think: 15 8 \boxed{85}       column results from the units up: right but for slips
"""

import numpy as np


def columns(left: int, operator: str, right: int, *, carry: bool) -> list[int]:
    """The column results from the units up; the last one is the remaining leading part.

    With `carry`: 47 + 38 -> [15, 8], 52 - 38 -> [4, 1], 7 * 48 -> [56, 33]. Without, nothing is
    carried or borrowed: [15, 7], [4, 2], [56, 28].
    """
    width = len(str(right)) if operator == "*" else max(len(str(left)), len(str(right)))
    results, held = [], 0
    for place in range(width):
        a, b = left // 10**place % 10, right // 10**place % 10
        result = {"+": a + b, "-": a - b, "*": left * b}[operator] + held
        results.append(result if result >= 0 else result + 10)
        held = result // 10 if carry else 0
    return results


def value_of(results: list[int]) -> int:
    """The number given by its column results."""
    below = sum(result % 10 * 10**place for place, result in enumerate(results[:-1]))
    return results[-1] * 10 ** (len(results) - 1) + below


def solution(
    question: str, rng: np.random.Generator, *, quick_share: float, slip_share: float
) -> str:
    """A made-up answer: quick, or worked and then with one column off by one in `slip_share`."""
    left, operator, right = question.removeprefix("What is ").removesuffix("?").split()
    if rng.random() < quick_share:
        guess = value_of(columns(int(left), operator, int(right), carry=False))
        return f"\\boxed{{{guess}}}"
    results = columns(int(left), operator, int(right), carry=True)
    if rng.random() < slip_share:
        place = int(rng.integers(len(results)))
        results[place] = max(0, results[place] + int(rng.choice([-1, 1])))
    working = " ".join(map(str, results))
    return f"let me think: {working} \\boxed{{{value_of(results)}}}"
