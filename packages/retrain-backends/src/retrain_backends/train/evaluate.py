"""Evaluation on held-out questions: before the first step, at intervals, and after the last step.

Questions and random numbers are the same in every evaluation of every run, whatever its seed, so
two evaluations differ by the policy alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrain_backends.group_sampling import GroupSampling
from retrain_backends.protocols import Sampler
from retrain_backends.randomness import Purpose
from retrain_backends.tracking.console import StepView
from retrain_backends.tracking.journal import Journal, Row, read_evaluations
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.interrupt import finish_first
from retrain_backends.train.step.scoring import Judge, Scoring
from retrain_backends.types import Completion, Floats, Prompt, Verdict
from retrain_core import offsets_from_lengths, pass_at_k, question_outcomes


@dataclass(frozen=True)
class Answers:
    """The completions of all held-out questions: those of question `i` are `groups[i]`."""

    groups: Sequence[Sequence[Completion]]
    texts_n: Sequence[str]
    verdicts_n: Sequence[Verdict]

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Completions of question `i` are `offsets[i]:offsets[i + 1]`, shape [P + 1]."""
        return offsets_from_lengths([len(group) for group in self.groups])


@dataclass(frozen=True)
class EvaluationSettings:
    """When and how to evaluate.

    Args:
      due_after: step counts after which an evaluation is due.
      condition: name of the learning rule, for the logs.
      questions: each question with its index in its source.
      sampling: how each question is sampled; its seed is not that of the run.
      pass_k: the values of k for which pass@k is reported.
    """

    due_after: frozenset[int]
    condition: str
    questions: Sequence[tuple[int, Prompt]]
    sampling: GroupSampling
    pass_k: Sequence[int]


class Evaluator:
    """Evaluates the policy when an evaluation is due.

    Args:
      settings: when and how to evaluate.
      run_dir: directory of the run's logs.
      sampler: samples the completions.
      judge: scores them.
      journal: receives the results.
      view: shows progress.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        run_dir: Path,
        sampler: Sampler,
        judge: Judge,
        journal: Journal,
        view: StepView,
    ) -> None:
        self._settings = settings
        self._run_dir = run_dir
        self._sampler = sampler
        self._judge = judge
        self._journal = journal
        self._view = view

    def evaluate_if_due(self, steps_done: int) -> float | None:
        """Evaluate before the first step, every `[eval] every` steps, and after the last step.

        An evaluation that is already logged, as after resuming, is not repeated.

        Args:
          steps_done: training steps completed.

        Returns:
          The mean held-out reward, by which checkpoints are compared. None if no evaluation is
          due, or no completion has a verdict.
        """
        if steps_done not in self._settings.due_after:
            return None
        logged = [row for row in read_evaluations(self._run_dir) if row["step"] == steps_done]
        return (logged[0] if logged else self._evaluate(steps_done))["mean_reward"]

    def _evaluate(self, steps_done: int) -> dict[str, Any]:
        settings, clock = self._settings, StepClock()
        with clock("sample"):
            scoring = self._sample()
        with clock("reward"):
            verdicts_n = scoring.verdicts()
        answers = Answers(scoring.groups(), scoring.texts(), verdicts_n)
        summary = {
            "step": steps_done,
            "condition": settings.condition,
            "temperature": settings.sampling.params.temperature,
            **evaluation_figures(answers, settings.sampling.max_tokens, settings.pass_k),
            "time_s": clock.elapsed_s(),
            **{f"{part}_s": seconds for part, seconds in clock.parts_s.items()},
        }
        with finish_first():
            rows = _question_rows(settings.questions, answers)
            self._journal.write_evaluation(steps_done, summary, rows)
        return summary

    def _sample(self) -> Scoring:
        """Sample the completions, and start scoring each group when it is finished."""
        settings = self._settings
        prompts = [prompt for _, prompt in settings.questions]
        scoring = self._judge.scoring(prompts)
        # Step 0 and a fixed seed: every evaluation uses the same random streams.
        tokens = [prompt.tokens for prompt in prompts]
        requests = settings.sampling.requests(tokens, Purpose.EVALUATE, 0)
        self._view.announce(f"evaluating: 0 of {len(prompts)} questions")
        with closing(self._sampler.sample(requests, settings.sampling.params)) as groups:
            for done, (index, group) in enumerate(groups, start=1):
                scoring.begin(index, group)
                self._view.announce(f"evaluating: {done} of {len(prompts)} questions")
        return scoring


def evaluation_figures(
    answers: Answers, max_tokens: int, pass_k: Sequence[int]
) -> dict[str, float | None]:
    """The figures of one evaluation.

    Rates and rewards are means over questions. Questions without a verdict are excluded, among
    them those that a service failed to answer; `pass_at_<k>` also excludes questions with fewer
    than `k` verdicts.
    """
    rewards_n = np.array([verdict.value or 0.0 for verdict in answers.verdicts_n])
    scored_n = np.array([verdict.value is not None for verdict in answers.verdicts_n], np.bool_)
    outcomes = question_outcomes(rewards_n, answers.offsets, scored_n)
    lengths_n = np.array(
        [len(c.tokens_T) for c in chain.from_iterable(answers.groups)], dtype=np.int64
    )
    return {
        "accuracy": _mean(pass_at_k(outcomes.correct, outcomes.scored, 1)),
        "mean_reward": _mean(outcomes.mean_reward),
        **{f"pass_at_{k}": _mean(pass_at_k(outcomes.correct, outcomes.scored, k)) for k in pass_k},
        "num_questions": len(answers.groups),
        "num_completions": len(lengths_n),
        "no_verdict_count": int((~scored_n).sum()),
        "failed_questions": sum(not group for group in answers.groups),
        "max_token_hit_rate": float((lengths_n >= max_tokens).mean()) if lengths_n.size else None,
        "tokens_sampled": int(lengths_n.sum()),
    }


def _question_rows(questions: Sequence[tuple[int, Prompt]], answers: Answers) -> Iterator[Row]:
    """One row per question, for `eval/step_<steps>.jsonl`."""
    bounds = pairwise(answers.offsets.tolist())
    for (index, prompt), group, (start, end) in zip(questions, answers.groups, bounds, strict=True):
        verdicts = answers.verdicts_n[start:end]
        yield {
            "index": index,
            "question": prompt.example.question,
            "reference": prompt.example.reference,
            "rewards": [verdict.value for verdict in verdicts],
            "no_verdict_reasons": [v.reason if v.value is None else None for v in verdicts],
            "verdict_texts": [verdict.text or None for verdict in verdicts],
            "num_tokens": [len(completion.tokens_T) for completion in group],
            "completions": answers.texts_n[start:end],
        }


def _mean(values: Floats) -> float | None:
    """Mean of the values that are not NaN; None if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
