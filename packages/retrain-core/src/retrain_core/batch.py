"""The completions of one training step, in flat arrays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from retrain_core.arrays import Floats, Mask, Offsets, as_floats, as_mask, as_offsets, check_size
from retrain_core.segments import offsets_from_lengths


@dataclass(frozen=True)
class CompletionBatch:
    """Rewards and sampled tokens of a step, in flat arrays.

    Lists are converted. Arrays of the right type are not copied, and never modified.

    Attributes:
      rewards: one per completion, finite, shape [n].
      group_offsets: completions of prompt i are `group_offsets[i]:group_offsets[i + 1]`,
        shape [g + 1].
      token_offsets: tokens of completion j are `token_offsets[j]:token_offsets[j + 1]`,
        shape [n + 1].
      logprobs: log-probability of each token where it was sampled, nats, finite, shape [t].
      entropy: Shannon entropy of the distribution each token was drawn from, nats, shape [t].
      planning: True for planning tokens, shape [t]; None: there are none.
      trainable: False for tokens that the policy did not sample, such as those of an environment,
        shape [t]; None: all were sampled. Log-probs and entropies of the others are ignored.

    Raises:
      ValueError: a wrong shape, a mask that is not boolean, or a number that is not finite; the
        message names the completion and the token.
    """

    rewards: Floats
    group_offsets: Offsets
    token_offsets: Offsets
    logprobs: Floats
    entropy: Floats | None = None
    planning: Mask | None = None
    trainable: Mask | None = None

    def __post_init__(self) -> None:
        rewards = as_floats(self.rewards, "rewards")
        logprobs = as_floats(self.logprobs, "logprobs")
        self._keep("rewards", rewards)
        self._keep("logprobs", logprobs)
        self._keep(
            "group_offsets",
            as_offsets(self.group_offsets, rewards.size, "group_offsets", "completions"),
        )
        self._keep("token_offsets", as_offsets(self.token_offsets, logprobs.size, "token_offsets"))
        check_size(self.token_offsets, rewards.size + 1, "token_offsets", "completions, plus one")
        if self.planning is not None:
            self._keep("planning", as_mask(self.planning, logprobs.size, "planning"))
        if self.trainable is not None:
            self._keep("trainable", as_mask(self.trainable, logprobs.size, "trainable"))
        if self.entropy is not None:
            entropy = as_floats(self.entropy, "entropy")
            check_size(entropy, logprobs.size, "entropy", "tokens")
            self._keep("entropy", entropy)
            self._check_finite_tokens("entropy", entropy)
        self._check_finite_rewards()
        self._check_finite_tokens("log-prob", logprobs)

    @cached_property
    def lengths(self) -> Offsets:
        """Number of tokens of each completion, shape [n]."""
        return np.diff(self.token_offsets)

    @cached_property
    def group_token_offsets(self) -> Offsets:
        """Boundaries of the tokens of each group, shape [g + 1]."""
        return self.token_offsets[self.group_offsets]

    def sampled_tokens(self) -> "CompletionBatch":
        """The same batch without the tokens that the policy did not sample."""
        kept_t = self.trainable
        if kept_t is None:
            return self
        # Entry k is the number of kept tokens among the first k.
        kept_before = offsets_from_lengths(kept_t)
        return CompletionBatch(
            self.rewards,
            self.group_offsets,
            kept_before[self.token_offsets],
            self.logprobs[kept_t],
            None if self.entropy is None else self.entropy[kept_t],
            None if self.planning is None else self.planning[kept_t],
        )

    def _keep(self, name: str, value: Floats | Offsets | Mask) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen

    def _check_finite_rewards(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.rewards))
        if bad.size:
            raise ValueError(
                f"completion {bad[0]}: the reward {self.rewards[bad[0]]} is not finite"
            )

    def _check_finite_tokens(self, what: str, values_t: Floats) -> None:
        bad_t = ~np.isfinite(values_t)
        if self.trainable is not None:
            bad_t &= self.trainable
        if not bad_t.any():
            return
        token = int(np.argmax(bad_t))
        completion = int(np.searchsorted(self.token_offsets, token, side="right")) - 1
        position = token - int(self.token_offsets[completion])
        raise ValueError(
            f"completion {completion}, token {position}: the {what} {values_t[token]} is not finite"
        )
