"""Evaluation: held-out questions, asked before the first step, every so often and at the end.

All runs ask the same questions and draw the same random numbers, at every evaluation and whatever
their seed: what changes between two evaluations is the policy, not the luck.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from retrain_backends.data import EVALUATION_SEED
from retrain_backends.randomness import Purpose
from retrain_backends.rewards.service import PendingVerdicts
from retrain_backends.tracking.journal import Row, read_evaluations
from retrain_backends.train.build import Run
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.interrupt import finish_first
from retrain_backends.types import Completion, Floats, SamplingParams, Scored, Verdict
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


def evaluate_if_due(run: Run, steps_done: int) -> float | None:
    """Evaluate before the first step, every `[eval] every` steps, and after the last step.

    An evaluation that the logs already have, as after resuming, is not done again.

    Args:
      run: the run; its logs get the evaluation.
      steps_done: how many steps the policy has been trained.

    Returns:
      The policy's score by which checkpoints are compared: its mean held-out reward. None when no
      evaluation is due, or when no completion could be judged.
    """
    every, last = run.config.eval.every, run.config.training.max_steps
    if not every or (steps_done % every and steps_done != last):
        return None
    logged = [row for row in read_evaluations(run.directory) if row["step"] == steps_done]
    return (logged[0] if logged else _evaluate(run, steps_done))["mean_reward"]


def _evaluate(run: Run, steps_done: int) -> dict[str, Any]:
    clock = StepClock()
    answers = _ask(run, clock)
    summary = {
        "step": steps_done,
        "condition": run.condition,
        "temperature": _sampling(run).temperature,
        **evaluation_figures(answers, run.config.training.max_tokens, run.config.eval.pass_k),
        "time_s": clock.elapsed_s(),
        **{f"{part}_s": seconds for part, seconds in clock.parts_s.items()},
    }
    with finish_first():
        run.journal.write_evaluation(steps_done, summary, _questions(run, answers))
    return summary


def _ask(run: Run, clock: StepClock) -> Answers:
    """Sample and judge, with no more completions at a time than a training step has.

    Those that have been sampled are judged while others are sampled, if the reward can do so.
    """
    training, samples = run.config.training, run.config.eval.samples
    at_once = max(1, training.batch_size * training.group_size // samples)
    groups: list[list[Completion]] = []
    tickets: list[PendingVerdicts] = []
    with clock("sample"):
        while len(groups) < len(run.held_out):
            run.view.announce(f"evaluating: {len(groups)} of {len(run.held_out)} questions")
            some = [prompt for _, prompt in run.held_out[len(groups) :][:at_once]]
            sampled = run.backend.sample([p.tokens for p in some], _sampling(run, len(groups)))
            groups += sampled
            tickets.append(
                run.reward.submit(
                    [
                        Scored(prompt.example, run.tokenizer.decode(completion.tokens_T))
                        for prompt, group in zip(some, sampled, strict=True)
                        for completion in group
                    ]
                )
            )
    with clock("reward"):
        verdicts_n = run.reward.collect(tickets)
    texts_n = [item.response for ticket in tickets for item in ticket.items]
    return Answers(groups, texts_n, verdicts_n)


def _sampling(run: Run, first_prompt: int = 0) -> SamplingParams:
    """The streams have neither the run's seed nor the step in their names."""
    return SamplingParams(
        group_size=run.config.eval.samples,
        max_tokens=run.config.training.max_tokens,
        temperature=run.config.eval.temperature_beside(run.config.training.temperature),
        stop_token_ids=run.tokenizer.stop_token_ids,
        seed=EVALUATION_SEED,
        step=0,
        purpose=Purpose.EVALUATE,
        first_prompt=first_prompt,
        num_prompts=len(run.held_out),
    )


def evaluation_figures(
    answers: Answers, max_tokens: int, pass_k: Sequence[int]
) -> dict[str, float | None]:
    """The figures of one evaluation.

    Rates and rewards are means over questions, each of which counts the same; a question without a
    verdict is left out of them, and one with fewer than `k` verdicts out of `pass_at_<k>`. So is
    one that a service failed to answer, which has no completions.
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


def _questions(run: Run, answers: Answers) -> Iterator[Row]:
    """One object for each question, in `eval/step_<steps>.jsonl`."""
    bounds = pairwise(answers.offsets.tolist())
    for (index, prompt), group, (start, end) in zip(
        run.held_out, answers.groups, bounds, strict=True
    ):
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
    """Mean of the values that are known; None when none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
