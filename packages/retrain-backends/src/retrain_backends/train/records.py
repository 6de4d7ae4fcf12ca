"""The rows of a step in the logs."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrain_backends.tracking.journal import Journal, Row
from retrain_backends.train.monitoring.health import Health
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.credit import Credit
from retrain_backends.train.step.samples import Judged
from retrain_backends.types import StepResult, Usage
from retrain_core import EntropyStats


@dataclass(frozen=True)
class StepRecord:
    """The results of one step.

    `result` is None if nothing was trained; `usage` covers the time since the previous step.
    """

    judged: Judged
    credit: Credit
    result: StepResult | None
    usage: Usage
    health: Health

    @property
    def step(self) -> int:
        """Index of the step."""
        return self.credit.batch.step


def log_step(journal: Journal, record: StepRecord, condition: str, clock: StepClock) -> None:
    """Write the step to the logs.

    Args:
      journal: the logs of the run.
      record: the results of the step.
      condition: the name of the learning rule.
      clock: times of the parts of the step, which ends now.
    """
    metrics = {
        "step": record.step,
        "condition": condition,
        **_figures(record),
        **_volume_figures(record),
        **_time_figures(record, clock),
    }
    counts = record.credit.counts
    emergence = {
        "step": record.step,
        "mean_reward": counts.mean_reward if counts.scored_count else None,
        "correct_count": counts.correct_count,
        "total_count": counts.scored_count,
        "condition": condition,
    }
    journal.write(metrics, emergence, _generations(record))


def _figures(record: StepRecord) -> Row:
    return {
        **_reward_figures(record),
        **_entropy_figures(record.credit.entropy),
        "sepa_lambda": record.credit.sepa.strength,
        "sepa_gate_open": record.credit.sepa.gate_open,
        "bp_action": "off",
        "bp_regime": "off",
        **record.credit.advantages.metrics,
        "num_datums": len(record.credit.batch.token_offsets_n) - 1,
        "steps_off_policy": record.judged.steps_off_policy,
        **_loss_figures(record.result),
        **record.health.row(),
        **record.usage.figures,
    }


def _generations(record: StepRecord) -> Iterator[Row]:
    """One row per completion, for `emergence/generations.jsonl`."""
    samples, judged = record.judged.samples, record.judged
    advantages_n = np.full(len(judged.verdicts_n), np.nan)
    advantages_n[judged.scored_n] = record.credit.advantages.episode
    for index, (completion, verdict) in enumerate(
        zip(samples.completions_n, judged.verdicts_n, strict=True)
    ):
        prompt = samples.prompts[samples.group_n[index]]
        yield {
            "step": record.step,
            "prompt": prompt.text,
            "completion": samples.texts_n[index],
            "reference": prompt.example.reference,
            "reward": verdict.value,
            "no_verdict_reason": verdict.reason if verdict.value is None else None,
            "verdict_text": verdict.text or None,
            "advantage": float(advantages_n[index]),  # NaN (null in the log) without a verdict
            "num_tokens": len(completion.tokens_T),
            "stop_reason": completion.stop_reason,
        }


def _reward_figures(record: StepRecord) -> Row:
    counts, samples = record.credit.counts, record.judged.samples
    return {
        "mean_reward": counts.mean_reward if counts.scored_count else None,
        "correct_rate": counts.correct_rate if counts.scored_count else None,
        "running_correct_rate": counts.running_correct_rate if counts.running.scored else None,
        "no_verdict_count": counts.no_verdict,
        "groups_all_correct": counts.all_correct,
        "groups_all_wrong": counts.all_wrong,
        "groups_tied": counts.tied,
        "max_token_hit_rate": counts.max_token_hit_rate if samples.completions_n else None,
        "failed_prompts": samples.failed_prompts,
    }


def _entropy_figures(stats: EntropyStats) -> Row:
    has_exec, has_plan = stats.exec_count > 0, stats.plan_count > 0
    return {
        "exec_entropy_mean": stats.exec_mean if has_exec else None,
        "exec_entropy_var": stats.exec_var if has_exec else None,
        "exec_token_count": stats.exec_count,
        "plan_entropy_mean": stats.plan_mean if has_plan else None,
        "plan_entropy_var": stats.plan_var if has_plan else None,
        "plan_token_count": stats.plan_count,
    }


def _loss_figures(result: StepResult | None) -> Row:
    return {
        "loss": result and result.loss,
        "grad_norm": result and result.grad_norm,
        "mean_abs_logprob_diff": result and result.mean_abs_logprob_diff,
        "kl_k3": result and result.kl_k3,
        "ratio_p99": result and result.ratio_p99,
        "ratio_max": result and result.ratio_max,
        "clip_fraction": result and result.clip_fraction,
        "tokens_trained": result.num_tokens if result else 0,
    }


def _volume_figures(record: StepRecord) -> Row:
    samples = record.judged.samples
    return {
        "batch_size": len(samples.prompts),
        "group_size": int(samples.group_sizes_g.max(initial=0)),
        "tokens_sampled": int(samples.lengths_n.sum()),
    }


def _time_figures(record: StepRecord, clock: StepClock) -> Row:
    tokens, step_time_s = int(record.judged.samples.lengths_n.sum()), clock.elapsed_s()
    train_parts = record.result.times_s if record.result else {}
    return {
        "step_time_s": step_time_s,
        "tokens_per_second": tokens / step_time_s,
        **clock.waits_s(),
        **{f"{part}_s": seconds for part, seconds in clock.parts_s.items()},
        **{f"train_{part}_s": seconds for part, seconds in train_parts.items()},
    }
