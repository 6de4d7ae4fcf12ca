r"""Tries the reward on answers that are known to be right or wrong.

Each example of a sample of the data gets two answers: its own reference in `\boxed{...}`, which is
right, and that of another example, which is wrong. `match` and `math` also judge the reference
written in other forms, to show where they disagree, and a table of answers of many kinds that are
known to equal their reference or not (`answer_pairs.toml`).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from time import perf_counter

from retrain_backends.config import RewardConfig, RunConfig
from retrain_backends.data import load_examples
from retrain_backends.data.stream import is_endless
from retrain_backends.randomness import Purpose, stream
from retrain_backends.rewards import build_reward
from retrain_backends.rewards.answer_pairs import AnswerPair, answer_pairs
from retrain_backends.types import Example, Rollout, Verdict

# Other forms of the same answer: their name, and the substitution that produces them.
_REWRITING: Sequence[tuple[str, str, str | Callable[[re.Match[str]], str]]] = (
    (r"with \dfrac", r"\\frac", r"\\dfrac"),
    ("with a slash", r"^\\frac\{(\d+)\}\{(\d+)\}$", r"\1/\2"),
    ("as a decimal", r"^(-?\d+)$", r"\1.0"),
    ("with commas", r"^\d{4,}$", lambda match: f"{int(match[0]):,}"),
    ("between dollar signs", r"^(.*)$", r"$\1$"),
)


class Answer(Enum):
    """What is known about an answer."""

    RIGHT = "right"
    WRONG = "wrong"


@dataclass(frozen=True)
class Tried:
    """One answer to one example, and the verdict on it."""

    known: Answer
    answer: str
    example: Example
    verdict: Verdict

    @property
    def is_surprise(self) -> bool:
        """Whether the verdict is missing or differs from the known one."""
        value = self.verdict.value
        return value is None or (value > 0.5) != (self.known is Answer.RIGHT)


@dataclass(frozen=True)
class Disagreement:
    """One answer on which `match` and `math` differ; `form` describes the answer."""

    form: str
    answer: str
    reference: str
    match: Verdict
    math: Verdict


@dataclass(frozen=True)
class Misjudged:
    """The pairs of the table that a reward judged wrong or not at all, of so many of each sort."""

    same: int
    different: int
    pairs: Sequence[AnswerPair]

    @property
    def false_negatives(self) -> list[AnswerPair]:
        """Pairs that are the same."""
        return [pair for pair in self.pairs if pair.same]

    @property
    def false_positives(self) -> list[AnswerPair]:
        """Pairs that differ."""
        return [pair for pair in self.pairs if not pair.same]


@dataclass(frozen=True)
class RewardCheck:
    """The result.

    `disagreements` is None if math-verify is not installed, `misjudged` if the reward is neither
    `match` nor `math`.
    """

    examples: int
    tried: Sequence[Tried]
    time_s: float
    compared: int
    disagreements: Sequence[Disagreement] | None
    misjudged: Misjudged | None

    @property
    def surprises(self) -> list[Tried]:
        """Answers whose verdict is missing or differs from the known one."""
        return [one for one in self.tried if one.is_surprise]

    def counts(self, known: Answer) -> Counter[str]:
        """The number of answers of a kind that were judged right, wrong, or not at all."""
        return Counter(_word(one.verdict) for one in self.tried if one.known is known)


def check_reward(config: RunConfig, most_examples: int) -> RewardCheck:
    """Try the configured reward on a sample of the configured data.

    Args:
      config: of the run; nothing is written and no model is loaded.
      most_examples: maximum size of the sample.

    Raises:
      RetrainError: data or reward cannot be loaded.
    """
    seed = max(0, config.training.seed)
    examples = _sample(
        load_examples(config.data, seed, config.training.max_examples), most_examples
    )
    cases = [(Answer.RIGHT, example.reference.strip(), example) for example in examples]
    cases += [(Answer.WRONG, wrong, example) for wrong, example in _with_wrong_answers(examples)]
    items = [_boxed(answer, example) for _, answer, example in cases]
    started = perf_counter()
    verdicts = _judge(config.reward, items)
    time_s = perf_counter() - started
    compared = [(f"known to be {known.value}", answer, e) for known, answer, e in cases]
    compared += [
        (f"right, {how}", text, example)
        for example in examples
        for how, text in rewritten(example.reference.strip()).items()
    ]
    return RewardCheck(
        examples=len(examples),
        tried=[Tried(*case, verdict) for case, verdict in zip(cases, verdicts, strict=True)],
        time_s=time_s,
        compared=len(compared),
        disagreements=_disagreements(config.reward, compared) if find_spec("math_verify") else None,
        misjudged=judge_pairs(config.reward) if config.reward.type in ("match", "math") else None,
    )


def judge_pairs(config: RewardConfig) -> Misjudged:
    """Judge the table of pairs with the reward `match` or `math`."""
    pairs = answer_pairs()
    verdicts = _judge(config, [_boxed(p.answer, Example("", p.reference)) for p in pairs])
    same = sum(pair.same for pair in pairs)
    wrong = [p for p, v in zip(pairs, verdicts, strict=True) if v.value != float(p.same)]
    return Misjudged(same, len(pairs) - same, wrong)


def rewritten(reference: str) -> dict[str, str]:
    """Other forms of the same answer, by name; only those that differ from the reference."""
    texts = {how: re.sub(pattern, text, reference) for how, pattern, text in _REWRITING}
    return {how: text for how, text in texts.items() if text != reference}


def _sample(examples: Sequence[Example], size: int) -> list[Example]:
    if is_endless(examples):
        return list(examples[:size])
    order = stream(0, Purpose.PROBE).permutation(len(examples))[:size]
    return [examples[int(i)] for i in order]


def _with_wrong_answers(examples: Sequence[Example]) -> Iterator[tuple[str, Example]]:
    """Each example with the next different reference."""
    for index, example in enumerate(examples):
        reference = example.reference.strip()
        others = (e.reference.strip() for e in [*examples[index:], *examples[:index]])
        yield next((other for other in others if other != reference), f"{reference}1"), example


def _boxed(answer: str, example: Example) -> Rollout:
    return Rollout(example, f"The answer is $\\boxed{{{answer}}}$.")


def _judge(config: RewardConfig, items: Sequence[Rollout]) -> list[Verdict]:
    tolerant = config.model_copy(update={"max_failure_rate": 1.0})
    with closing(build_reward(tolerant)) as reward:
        return reward.score(items)


def _disagreements(
    config: RewardConfig, compared: Sequence[tuple[str, str, Example]]
) -> list[Disagreement]:
    items = [_boxed(answer, example) for _, answer, example in compared]
    matched, calculated = (
        _judge(config.model_copy(update={"type": kind}), items) for kind in ("match", "math")
    )
    return [
        Disagreement(form, answer, example.reference, match, math)
        for (form, answer, example), match, math in zip(compared, matched, calculated, strict=True)
        if match.value != math.value
    ]


def _word(verdict: Verdict) -> str:
    if verdict.value is None:
        return "no verdict"
    return "right" if verdict.value > 0.5 else "wrong"
