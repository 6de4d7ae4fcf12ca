"""The names of a run's figures and settings in trackers."""

from collections.abc import Mapping
from typing import Final

from retrain_backends.config import RunConfig
from retrain_backends.tracking.journal import Row

# From the keys of `metrics.jsonl`; a key that is missing or null is left out.
TRAIN_FIGURES: Final = {
    "loss": "train/loss",
    "mean_reward": "train/rewards/mean_reward",
    "correct_rate": "train/rewards/correct_rate",
    "running_correct_rate": "train/rewards/running_correct_rate",
    "sepa_lambda": "train/sepa_lambda",
    "sepa_gate_open": "train/sepa_gate_open",
    "max_token_hit_rate": "train/max_token_hit_rate",
    "num_datums": "train/num_datums",
    "step_time_s": "train/step_time_s",
    "batch_size": "train/batch_size",
    "group_size": "train/group_size",
    "exec_entropy_mean": "train/entropy/exec_mean",
    "exec_entropy_var": "train/entropy/exec_var",
    "plan_entropy_mean": "train/entropy/plan_mean",
    "plan_entropy_var": "train/entropy/plan_var",
    "bp_action": "train/backpressure/action",
    "bp_regime": "train/backpressure/regime",
    "bp_p_star": "train/backpressure/p_star",
    "bp_sigma": "train/backpressure/sigma",
    "bp_kappa": "train/backpressure/kappa",
    "bp_utilization": "train/backpressure/utilization",
    "bp_throughput": "train/backpressure/throughput",
    "bp_warmup": "train/backpressure/warmup",
}
_NOT_FIGURES = ("step", "condition")


def train_figures(row: Row) -> dict[str, float | str]:
    """A row of `metrics.jsonl` under its tracked names."""
    return _known({name: row.get(key) for key, name in TRAIN_FIGURES.items()})


def evaluation_figures(row: Row) -> dict[str, float | str]:
    """A row of `eval.jsonl` under its tracked names: `eval/accuracy`, `eval/pass_at_1`, ..."""
    return _known({f"eval/{key}": row[key] for key in row if key not in _NOT_FIGURES})


def run_settings(config: RunConfig, condition: str) -> dict[str, float | str]:
    """The settings by which runs are compared, under their tracked names."""
    model, training, sepa = config.model, config.training, config.sepa
    return {
        "advantage_mode": config.algorithm.advantage_mode,
        "transform_mode": config.algorithm.transform_mode,
        "condition": condition,
        "model": model.model,
        "lora_rank": model.lora_rank,
        "lr": training.lr,
        "batch_size": training.batch_size,
        "group_size": training.group_size,
        "max_tokens": training.max_tokens,
        "temperature": training.temperature,
        "gtpo_beta": config.gtpo.beta,
        "hicra_alpha": config.hicra.alpha,
        "sepa_steps": sepa.steps,
        "sepa_delay_steps": sepa.delay_steps,
        "sepa_correct_rate_gate": sepa.correct_rate_gate,
        "max_steps": training.max_steps,
        "backend": config.backend.backend,
        "seed": training.seed,
    }


def _known(figures: Mapping[str, object]) -> dict[str, float | str]:
    """The figures that were measured; true and false as 1 and 0, which can be drawn."""
    return {
        name: int(value) if isinstance(value, bool) else value
        for name, value in figures.items()
        if isinstance(value, int | float | str)
    }
