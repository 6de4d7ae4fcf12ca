"""The learning rule of a run: an advantage and a transform, or one plugin."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from retrain_backends.config import AlgorithmConfig, GtpoConfig, HicraConfig
from retrain_backends.errors import ConfigError, RunError, describe
from retrain_backends.plugins import resolve
from retrain_backends.train.step.modes import advantage_row, transform_row
from retrain_backends.train.step.samples import Samples
from retrain_backends.types import Floats
from retrain_core import (
    Algorithm,
    CompletionBatch,
    EntropyStats,
    TokenAdvantages,
    entropy_stats,
    informative_groups,
    segment_mean,
    uncertainty,
)

log = logging.getLogger(__name__)

CLIPPING = ("clip_eps", "clip_eps_high")  # keys of `[algorithm] params` that the backend applies


class Rule(Protocol):
    """Maps the scored completions of a step to token advantages."""

    def __call__(self, batch: CompletionBatch, sepa_lambda: float = 0.0) -> TokenAdvantages:
        """Advantages of every token of the batch."""
        ...


class PluginRule:
    """A user's function as the whole learning rule.

    Args:
      function: `(batch, sepa_lambda, **params)` to the advantage of each token, shape [t].
      params: `[algorithm] params`.
      uncertainty_kind: the kind of uncertainty in the entropy statistics.
    """

    def __init__(
        self, function: Callable[..., Floats], params: Mapping[str, object], uncertainty_kind: str
    ) -> None:
        self._function = function
        self._params = params
        self._kind = uncertainty_kind

    def __call__(self, batch: CompletionBatch, sepa_lambda: float = 0.0) -> TokenAdvantages:
        """The checked advantages of the function; an episode's is the mean over its tokens."""
        values_t = np.asarray(self._function(batch, sepa_lambda, **self._params), dtype=np.float64)
        if values_t.shape != batch.logprobs.shape or not np.isfinite(values_t).all():
            raise ValueError(
                f"it must return {batch.logprobs.size} finite numbers, one for each token; "
                f"the shape is {values_t.shape}"
            )
        sampled = batch.sampled_tokens()
        h_t = uncertainty(self._kind, sampled.logprobs, sampled.entropy)
        planning_t = np.zeros(h_t.size, np.bool_) if sampled.planning is None else sampled.planning
        return TokenAdvantages(
            values=values_t,
            entropy_stats=entropy_stats(h_t, planning_t),
            episode=segment_mean(values_t, batch.token_offsets),
            informative=informative_groups(batch.rewards, batch.group_offsets),
            metrics={},
        )


class NonNegativeRule:
    """A learning rule for rewards >= 0, which warns of the first negative one.

    Args:
      rule: the learning rule.
      mode: name of its advantage, for the warning.
    """

    def __init__(self, rule: Rule, mode: str) -> None:
        self._rule = rule
        self._mode = mode
        self._warned = False

    def __call__(self, batch: CompletionBatch, sepa_lambda: float = 0.0) -> TokenAdvantages:
        """The advantages of the rule."""
        lowest = float(np.min(batch.rewards, initial=0.0))
        if lowest < 0 and not self._warned:
            self._warned = True
            log.warning(
                "algorithm.advantage_mode: `%s` is defined for rewards >= 0, but a reward is %g, so"
                " the advantages are wrong: add a constant to all rewards, or use `grpo`",
                self._mode,
                lowest,
            )
        return self._rule(batch, sepa_lambda)


def build_rule(algorithm: AlgorithmConfig, gtpo: GtpoConfig, hicra: HicraConfig) -> Rule:
    """The learning rule of the configuration.

    Raises:
      ConfigError: a parameter is unknown, or its value is not allowed.
      PluginError: a plugin cannot be found.
    """
    _check_bounds(algorithm)
    if algorithm.algorithm_mode:
        function = resolve("algorithm", algorithm.algorithm_mode)
        return PluginRule(function, _own_params(algorithm), algorithm.uncertainty_kind)
    advantage = advantage_row(algorithm.advantage_mode)
    transform = transform_row(algorithm.transform_mode)
    params = mode_params(algorithm, gtpo, hicra)
    # A border: the parameters come from the user and are checked by the rows of the modes.
    try:
        rule = Algorithm.from_names(advantage, transform, algorithm.uncertainty_kind, **params)
    except ValueError as error:
        raise ConfigError(f"[algorithm] {error}") from error
    return NonNegativeRule(rule, algorithm.advantage_mode) if advantage.non_negative else rule


def needs_whole_step(algorithm: AlgorithmConfig) -> str:
    """Why the advantages of a group depend on the other groups of its step; empty if they do not.

    Raises:
      PluginError: a plugin cannot be found.
    """
    if algorithm.algorithm_mode:
        return f"algorithm.algorithm_mode: `{algorithm.algorithm_mode}` gets the whole step"
    advantage = advantage_row(algorithm.advantage_mode)
    transform = transform_row(algorithm.transform_mode)
    params = {**algorithm.advantage_params, **algorithm.transform_params, **algorithm.params}
    if params.get("batch_advantage_norm", advantage.batch_advantage_norm):
        return (
            f"algorithm.advantage_mode: `{algorithm.advantage_mode}` with batch_advantage_norm"
            " normalises over the whole step"
        )
    if not transform.by_group:
        return (
            f"algorithm.transform_mode: `{algorithm.transform_mode}` gets the whole step (unless"
            " its TransformSpec says by_group = True)"
        )
    return ""


def mode_params(algorithm: AlgorithmConfig, gtpo: GtpoConfig, hicra: HicraConfig) -> dict[str, Any]:
    """The parameters of all modes; each mode takes those that its row lists."""
    return {
        "gtpo_beta": gtpo.beta,
        "hicra_alpha": hicra.alpha,
        **algorithm.advantage_params,
        **algorithm.transform_params,
        **_own_params(algorithm),
    }


def apply_rule(rule: Rule, batch: CompletionBatch, sepa_lambda: float) -> TokenAdvantages:
    """Token advantages of the batch.

    Raises:
      RunError: the rule failed.
    """
    # A border: parts of the rule may be the user's own.
    try:
        return rule(batch, sepa_lambda)
    except Exception as error:
        raise RunError(f"[algorithm] the learning rule failed: {describe(error)}") from error


def pooled_entropy(samples: Samples, kind: str) -> EntropyStats:
    """Uncertainty of all sampled tokens of the step, scored or not, before any transform."""
    sampled_t = samples.trainable_t
    entropy_t = None if samples.entropy_t is None else samples.entropy_t[sampled_t]
    h_t = uncertainty(kind, samples.logprobs_t[sampled_t], entropy_t)
    return entropy_stats(h_t, samples.planning_t[sampled_t])


def _own_params(algorithm: AlgorithmConfig) -> dict[str, Any]:
    return {key: value for key, value in algorithm.params.items() if key not in CLIPPING}


def _check_bounds(algorithm: AlgorithmConfig) -> None:
    params = algorithm.params
    problems = [
        f"[algorithm] params: {key} must be a number >= 0, not `{params[key]}`"
        for key in CLIPPING
        if key in params and not _is_non_negative(params[key])
    ]
    if not problems and params.get("clip_eps_high") and not params.get("clip_eps"):
        problems.append("[algorithm] params: clip_eps_high needs clip_eps")
    if algorithm.importance_cap and (params.get("clip_eps") or params.get("clip_eps_high")):
        problems.append(
            f"algorithm.importance_cap: `{algorithm.importance_cap}` and clip_eps of [algorithm] "
            "params bound the same ratio; set one of them to 0"
        )
    if problems:
        raise ConfigError(*problems)


def _is_non_negative(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
