r"""How fast and how patient the `math` reward is: answers a second, and bad answers.

    python benchmarks/rewards.py [--workers 2]

Answers like those of the MATH data set (fractions, roots, intervals, tuples, polynomials, matrices,
text; half of them right, some written otherwise than the reference, all different) are judged by
`math` after its processes have started. Nothing is remembered from one answer to the next, and
answers that equal their reference are not counted, since `math` need not ask for them. Then the
same with answers that never end among them: the wall time beyond the time limit.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np

from retrain_backends.config import RewardConfig
from retrain_backends.rewards import RewardService, build_reward
from retrain_backends.types import Example, Rollout

ANSWERS = 1000
WARM_UP = 64
ENDLESS = (r"9^{9^{9^9}}", "{" * 400 + "1" + "}" * 400)
LIMIT_S = 3.0


def pairs(number: int) -> Iterator[tuple[str, str]]:
    """An answer and its reference of each kind, with different numbers."""
    rng = np.random.default_rng(number)
    a, b, c, d = (int(x) for x in rng.integers(2, 900, 4))
    yield f"{a}", f"{b}"
    yield f"{a}.0", f"{a}"
    yield f"{1000 + a:,}", f"{1000 + a}"
    yield rf"\dfrac{{{a}}}{{{b}}}", rf"\frac{{{a}}}{{{b}}}"
    yield rf"{a}/{b}", rf"\frac{{{a}}}{{{c}}}"
    yield rf"-\frac{{{2 * a}}}{{{2 * b}}}", rf"-\frac{{{a}}}{{{b}}}"
    yield rf"{a}\sqrt{{{b}}}", rf"{a} \sqrt{{{b}}}"
    yield rf"\sqrt{{{a * a * b}}}", rf"{a}\sqrt{{{b}}}"
    yield rf"\frac{{{a}\pi}}{{{b}}}", rf"\frac{{{a}}}{{{b}}} \pi"
    yield rf"({a}, {b})", rf"({a},{c})"
    yield rf"[{a}, {a + b})", rf"[{a},{a + b})"
    yield rf"(-\infty, {a}] \cup [{a + b}, \infty)", rf"(-\infty,{a}]\cup[{a + b},\infty)"
    yield f"{a}, {a + b}", f"{a + b},{a}"
    yield f"x = {a}", f"{a}"
    yield f"{a}x^2 + {b}x - {c}", f"{a}x^2+{b}x+{c}"
    yield f"(x+{a})(x-{b})", f"x^2+{a - b}x-{a * b}" if a >= b else f"x^2-{b - a}x-{a * b}"
    yield rf"{a}^\circ", f"{a}"
    yield rf"{a}\%", rf"{b}\%"
    yield rf"{a}\text{{ cm}}^2", f"{a}"
    yield f"{a} + {b}i", f"{a}+{c}i"
    yield (
        rf"\begin{{pmatrix}} {a} & {b} \\ {c} & {d} \end{{pmatrix}}",
        rf"\begin{{pmatrix}}{a}&{b}\\{c}&{d}\end{{pmatrix}}",
    )
    yield rf"\text{{ {_word(a)} }}", rf"\text{{{_word(a)}}}"


def _word(number: int) -> str:
    letters = "abcdefghjkmnopqrstuvwz"
    return "".join(letters[number // k % len(letters)] for k in (1, 22, 484)).title()


def items(count: int, first: int) -> list[Rollout]:
    """So many answers, each with a reference that it is not the same text as."""
    made: list[Rollout] = []
    number = first
    while len(made) < count:
        made += [item(*pair) for pair in pairs(number) if pair[0] != pair[1]]
        number += 1
    return made[:count]


def item(answer: str, reference: str) -> Rollout:
    """The input of a reward."""
    return Rollout(Example("", reference), rf"Thus \boxed{{{answer}}}.")


def timed(reward: RewardService, wanted: list[Rollout]) -> tuple[float, int, int]:
    """Seconds, the number of right answers, and the number without a verdict."""
    started = time.perf_counter()
    verdicts = reward.score(wanted)
    seconds = time.perf_counter() - started
    right = sum(verdict.value == 1 for verdict in verdicts)
    return seconds, right, sum(verdict.value is None for verdict in verdicts)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time the `math` reward.")
    parser.add_argument("--workers", type=int, default=2)
    workers = parser.parse_args().workers
    config = RewardConfig(type="math", timeout_s=LIMIT_S, max_failure_rate=1.0, workers=workers)
    with closing(build_reward(config)) as reward:
        start_s, _, _ = timed(reward, items(WARM_UP, 10_000))
        wanted = items(ANSWERS, 0)
        seconds, right, none = timed(reward, wanted)
    cpu_ms = 1000 * _children_cpu_s() / (ANSWERS + WARM_UP)
    print(f"start, and the first {WARM_UP} answers   {start_s:6.2f} s")
    print(f"{ANSWERS} answers, {workers} processes     {seconds:6.2f} s")
    print(f"                            {ANSWERS / seconds:6.0f} answers a second")
    print(f"processor time, with the start  {cpu_ms:.1f} ms an answer")
    print(f"right {right}, wrong {ANSWERS - right - none}, no verdict {none}")
    with closing(build_reward(config)) as reward:
        timed(reward, items(WARM_UP, 10_000))
        bad = [item(answer, "7") for answer in ENDLESS]
        some = items(100, 20_000)
        seconds, _, none = timed(reward, [*some[:50], *bad, *some[50:]])
        print(
            f"100 answers and {len(bad)} that never end, limit {LIMIT_S:g} s: {seconds:.2f} s",
            end="",
        )
        print(f", no verdict {none}")


if __name__ == "__main__":
    main()
