"""The learning rule of a run: from the completions of a step to token advantages."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from retrain_core.advantages import AdvantageFunction
from retrain_core.arrays import Floats, Mask
from retrain_core.batch import CompletionBatch
from retrain_core.bookkeeping import informative_groups
from retrain_core.chains import TransformFunction, TransformInput
from retrain_core.entropy import UNCERTAINTY_KINDS, EntropyStats, entropy_stats, uncertainty
from retrain_core.modes import ADVANTAGE_MODES, TRANSFORM_MODES, AdvantageSpec, TransformSpec
from retrain_core.names import look_up
from retrain_core.parameters import as_number, bind, check_params
from retrain_core.postprocess import advantage_cap, batch_advantage_norm

_POSTPROCESSING: Final = frozenset({"batch_advantage_norm", "advantage_cap"})
_MODE_PARAMS: Final = frozenset[str]().union(
    *(row.parameters or () for row in (*ADVANTAGE_MODES.values(), *TRANSFORM_MODES.values()))
)


@dataclass(frozen=True)
class TokenAdvantages:
    """The result of an algorithm for one batch.

    Attributes:
      values: advantage of each token, shape [t]; 0 for tokens that are not trainable. Those of
        uniform groups are not meaningful and are to be left out of training.
      entropy_stats: uncertainty of all sampled tokens of the step, before any transform.
      episode: advantage of each completion, before any transform, shape [n].
      informative: False for uniform groups, which train nothing, shape [g].
      metrics: figures of the post-processing for a log: `batch_adv_count`, `batch_adv_mean`,
        `batch_adv_std` if the normalisation is on, `adv_cap_fraction` and
        `adv_cap_mean_magnitude` if there is a cap.
    """

    values: Floats
    entropy_stats: EntropyStats
    episode: Floats
    informative: Mask
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Algorithm:
    """An advantage function, a token transform and the post-processing, in this order.

        algorithm = Algorithm.from_names("maxrl", "gtpo_sepa", gtpo_beta=0.1)
        advantages = algorithm(batch, sepa_lambda=0.4)

    Calling it has no side effects: the same batch and lambda give the same numbers.

    Attributes:
      advantage: rewards of one group, shape [G], to advantages, shape [G].
      transform: `TransformInput` to token advantages, shape [t].
      uncertainty_kind: see `uncertainty`.
      batch_advantage_norm: whether to normalise over the tokens of informative groups.
      advantage_cap: largest magnitude of a token's advantage; None: no cap.
    """

    advantage: AdvantageFunction
    transform: TransformFunction
    uncertainty_kind: str = "surprisal"
    batch_advantage_norm: bool = False
    advantage_cap: float | None = None

    def __post_init__(self) -> None:
        look_up("uncertainty_kind", self.uncertainty_kind.lower(), UNCERTAINTY_KINDS)
        if self.advantage_cap is not None and not self.advantage_cap > 0.0:
            raise ValueError(f"advantage_cap must be > 0 or None, got `{self.advantage_cap}`")

    @classmethod
    def from_names(
        cls,
        advantage_mode: str | AdvantageSpec | AdvantageFunction,
        transform_mode: str | TransformSpec | TransformFunction,
        uncertainty_kind: str = "surprisal",
        **params: object,
    ) -> "Algorithm":
        """Build an algorithm from the names of its modes, from rows or from plain functions.

        Args:
          advantage_mode: a key of `ADVANTAGE_MODES`, a row like those, or a function from the
            rewards of one group, shape [G], to advantages, shape [G].
          transform_mode: a key of `TRANSFORM_MODES`, a row like those, or a function from
            `TransformInput` to token advantages, shape [t].
          uncertainty_kind: see `uncertainty`.
          params: parameters of the modes, `batch_advantage_norm` (default: on for `reinforce_pp`
            only) and `advantage_cap`. A parameter of a built-in mode that was not chosen has no
            effect, so that the conditions of a campaign can share one set.

        Raises:
          ValueError: an unknown name or parameter, or a value that is not allowed.
        """
        advantage = _advantage_row(advantage_mode)
        transform = _transform_row(transform_mode)
        normalise = params.pop("batch_advantage_norm", advantage.batch_advantage_norm)
        if not isinstance(normalise, bool):
            raise ValueError(f"batch_advantage_norm must be true or false, got `{normalise}`")
        cap = params.pop("advantage_cap", None)
        own = (advantage.parameters, transform.parameters)
        check_params(params, _MODE_PARAMS, _POSTPROCESSING, own)
        return cls(
            bind(advantage.function, advantage.parameters, params),
            bind(transform.function, transform.parameters, params),
            uncertainty_kind,
            normalise,
            None if cap is None else as_number("advantage_cap", cap),
        )

    def __call__(self, batch: CompletionBatch, sepa_lambda: float = 0.0) -> TokenAdvantages:
        """Advantages of every token of the batch.

        Args:
          batch: the scored completions of one step.
          sepa_lambda: strength of SEPA at this step, in [0, 1]; other transforms ignore it.

        Raises:
          ValueError: `shannon_entropy` without entropies, or a plugin that returned a wrong shape
            or a number that is not finite.
        """
        sampled = batch.sampled_tokens()
        h_t = uncertainty(self.uncertainty_kind, sampled.logprobs, sampled.entropy)
        planning_t = sampled.planning
        if planning_t is None:
            planning_t = np.zeros(h_t.size, dtype=np.bool_)
        episode_n = self._episode(sampled)
        stats = entropy_stats(h_t, planning_t)  # before the transform, which may overwrite h
        values_t = self.transform(TransformInput(sampled, episode_n, h_t, planning_t, sepa_lambda))
        _check_result(values_t, h_t.size, "the transform", "tokens")
        informative_g = informative_groups(sampled.rewards, sampled.group_offsets)
        values_t, metrics = self._postprocess(values_t, informative_g, sampled)
        return TokenAdvantages(
            _scatter(values_t, batch.trainable), stats, episode_n, informative_g, metrics
        )

    def _episode(self, batch: CompletionBatch) -> Floats:
        """Episode advantages, by one call per group."""
        episode_n = np.empty_like(batch.rewards)
        bounds = batch.group_offsets.tolist()
        for start, end in pairwise(bounds):
            advantages_G = self.advantage(batch.rewards[start:end])
            _check_result(advantages_G, end - start, "the advantage function", "completions")
            episode_n[start:end] = advantages_G
        return episode_n

    def _postprocess(
        self, values_t: Floats, informative_g: Mask, batch: CompletionBatch
    ) -> tuple[Floats, dict[str, float]]:
        metrics: dict[str, float] = {}
        if not self.batch_advantage_norm and self.advantage_cap is None:
            return values_t, metrics
        informative_t = np.repeat(informative_g, np.diff(batch.group_token_offsets))
        if self.batch_advantage_norm:
            values_t, count, mean, std = batch_advantage_norm(values_t, informative_t)
            metrics |= {"batch_adv_count": count, "batch_adv_mean": mean, "batch_adv_std": std}
        if self.advantage_cap is not None:
            values_t, fraction, magnitude = advantage_cap(
                values_t, self.advantage_cap, informative_t
            )
            metrics |= {"adv_cap_fraction": fraction, "adv_cap_mean_magnitude": magnitude}
        return values_t, metrics


def _advantage_row(mode: str | AdvantageSpec | AdvantageFunction) -> AdvantageSpec:
    if isinstance(mode, str):
        return look_up("advantage_mode", mode, ADVANTAGE_MODES)
    return mode if isinstance(mode, AdvantageSpec) else AdvantageSpec.from_function(mode)


def _transform_row(mode: str | TransformSpec | TransformFunction) -> TransformSpec:
    if isinstance(mode, str):
        return look_up("transform_mode", mode, TRANSFORM_MODES)
    return mode if isinstance(mode, TransformSpec) else TransformSpec.from_function(mode)


def _check_result(values: Floats, size: int, what: str, of: str) -> None:
    """Raise ValueError unless there is one finite number for each completion or token."""
    shape = np.shape(values)
    if shape != (size,):
        raise ValueError(f"{what} returned shape {shape} for {size} {of}")
    # A single number that is not finite makes the sum not finite.
    if not np.isfinite(values.sum()):
        raise ValueError(f"{what} returned a number that is not finite")


def _scatter(values_t: Floats, trainable: Mask | None) -> Floats:
    """The values of sampled tokens at their places among all tokens; the others get 0."""
    if trainable is None:
        return values_t
    scattered_t = np.zeros(trainable.size)
    scattered_t[trainable] = values_t
    return scattered_t
