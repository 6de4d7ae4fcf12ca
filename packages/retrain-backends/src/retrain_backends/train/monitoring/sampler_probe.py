"""Checks that the sampler's tokens and log-probs are what training assumes.

A few tokens are sampled at a low temperature and at 1, and scored by the trainer. Comparing the
log-probs of the same tokens determines the kind of the engine's log-probs:

    tempered      agree with the trainer's at both temperatures; what training needs
    raw           agree at 1; those of the low temperature agree with the trainer's at 1
    truncated     above the trainer's for every token, by the mass that was cut off
    unexplained   implausible to the trainer: of other tokens, or of another model

For a trainer that computes at temperature 1 only (`TrainerCapabilities.temperature`), neither of
the first two is a defect, but its ratios have another meaning (`consequence`). They are
distinguished by the tokens of the low temperature: log-probs above the trainer's, or equal to them.

A new adapter does not change the policy, so whether the engine uses the trained adapter can be
checked only after an optimiser step: the engine must then agree with the trainer as before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from retrain_backends.engines.logprob_kind import (
    COLD,
    DISTANCES,
    FEWEST,
    HOT,
    LogprobKind,
    classify,
    classify_at_1,
    distance,
)
from retrain_backends.group_sampling import GroupSampling
from retrain_backends.protocols import Backend
from retrain_backends.randomness import Purpose
from retrain_backends.tokenizer import Tokenizer
from retrain_backends.types import Completion, Floats, SamplingParams, Tokens

AdapterUse: TypeAlias = Literal["active", "inactive", "undecided"]

_GROUP, _TOKENS = 4, 8  # completions per prompt, and tokens of each


@dataclass(frozen=True)
class ProbeResult:
    """The findings of a probe. `defects` are keys of `DEFECTS`.

    `logprobs`: the kind of the engine's log-probs; "undecided" if there are too few tokens, or if
    they are so certain that all kinds agree. `round_trip_share`: share of the completions whose
    ids are equal after decoding and encoding; less than 1 is no defect by itself, since a text has
    several tokenizations. `distance_nats`: mean distance of engine and trainer, by comparison.
    """

    logprobs: LogprobKind
    round_trip_share: float
    defects: tuple[str, ...]
    distance_nats: Mapping[str, float]
    tokens: int


@dataclass(frozen=True)
class _Sample:
    """Completions sampled at one temperature, with the log-probs of the engine."""

    prompts: Sequence[Tokens]
    rows: Sequence[Completion]

    @property
    def ids(self) -> list[Tokens]:
        return [row.tokens_T for row in self.rows]

    @property
    def logprobs_t(self) -> Floats:
        return np.concatenate([np.empty(0), *(row.logprobs_T for row in self.rows)])

    def scored(self, backend: Backend, temperature: float) -> Floats:
        """The trainer's log-probs of the same tokens."""
        scores = backend.trainer.score(self.prompts, self.ids, temperature)
        return np.concatenate([np.empty(0), *scores])


class SamplerProbe:
    """Probes the sampler of a backend.

    Args:
      backend: the sampler to probe and the trainer to compare with.
      tokenizer: the trainer's.
      prompts: one or two prompts to sample from.
      sampling: how the run samples; the probe uses its seed, stop tokens and `max_tokens`.
      step: index of the next step, part of the names of the random streams.
    """

    def __init__(
        self,
        backend: Backend,
        tokenizer: Tokenizer,
        prompts: Sequence[Tokens],
        sampling: GroupSampling,
        step: int,
    ) -> None:
        self._backend = backend
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._sampling = sampling
        self._step = step
        self._before: tuple[_Sample, Floats] | None = None

    def run(self) -> ProbeResult:
        """Sample and score a few tokens; the sample is kept for `adapter_use`."""
        hot, cold = self._sample(HOT), self._sample(COLD)
        ids = [*hot.ids, *cold.ids]
        exact, readable = self._round_trips(ids)
        tokens = sum(map(len, ids))
        temperature = self._backend.capabilities.trainer.temperature
        if defect := self._unusable([*hot.rows, *cold.rows]):
            return ProbeResult("unexplained", exact, (defect,), {}, tokens)
        hot_scores = hot.scored(self._backend, HOT)
        self._before = hot, hot_scores
        raw_scores = cold.scored(self._backend, HOT)
        excess = {
            "hot": hot.logprobs_t - hot_scores,
            "raw": cold.logprobs_t - raw_scores,
        }
        if temperature:
            excess["cold"] = cold.logprobs_t - cold.scored(self._backend, COLD)
            kind, defect = classify(excess)
        else:
            surprisal = {"hot": distance(hot_scores), "cold": distance(raw_scores)}
            kind, defect = classify_at_1(excess, surprisal)
        # If sampler and trainer agree, the ids are right, and only some texts are ambiguous.
        odd = not readable and kind not in ("tempered", "raw")
        defects = [*([defect] if defect else []), *(["no_round_trip"] if odd else [])]
        distances = {DISTANCES[name]: distance(part) for name, part in excess.items()}
        return ProbeResult(kind, exact, tuple(defects), distances, tokens)

    def adapter_use(self) -> AdapterUse:
        """Whether the engine samples from the trained adapter.

        If it does, it agrees with the trainer as it did in `run`; if not, their distance is that
        by which training has moved the policy since. "undecided" while that is within rounding, as
        before the first optimiser step.
        """
        if self._before is None:
            return "undecided"
        before, old_scores = self._before
        moved = distance(before.scored(self._backend, HOT) - old_scores)
        noise = distance(before.logprobs_t - old_scores)
        if before.logprobs_t.size < FEWEST or moved <= 3 * noise:
            return "undecided"
        after = self._sample(HOT)
        if after.logprobs_t.size < FEWEST:
            return "undecided"
        mismatch = distance(after.logprobs_t - after.scored(self._backend, HOT))
        if mismatch <= moved / 3:
            return "active"
        return "inactive" if np.isfinite(moved) and mismatch >= 2 * moved / 3 else "undecided"

    def _sample(self, temperature: float) -> _Sample:
        sampling = replace(
            self._sampling,
            group_size=_GROUP,
            max_tokens=min(_TOKENS, self._sampling.max_tokens),
            params=SamplingParams(temperature, self._sampling.params.stop_token_ids),
        )
        groups = sampling.sample(self._backend.sampler, self._prompts, Purpose.PROBE, self._step)
        pairs = zip(self._prompts, groups, strict=True)
        return _Sample(
            [prompt for prompt, group in pairs for _ in group],
            [row for group in groups for row in group],
        )

    def _unusable(self, rows: Sequence[Completion]) -> str | None:
        """The defect of completions that the trainer cannot score, if there is one."""
        if any(row.tokens_T.shape != row.logprobs_T.shape for row in rows):
            return "misaligned"
        size = self._tokenizer.vocabulary_size
        known = all(((row.tokens_T >= 0) & (row.tokens_T < size)).all() for row in rows)
        return None if known else "unknown_ids"

    def _round_trips(self, rows: Sequence[Tokens]) -> tuple[float, bool]:
        """Share of rows with equal ids after a round trip, and whether all texts are equal."""
        texts = ["".join(self._tokenizer.token_texts(ids)) for ids in rows]
        prefix = len(self._tokenizer.encode(""))
        encoded = [self._tokenizer.encode(text)[prefix:] for text in texts]
        exact = [np.array_equal(ids, again) for ids, again in zip(rows, encoded, strict=True)]
        decoded = ["".join(self._tokenizer.token_texts(ids)) for ids in encoded]
        return float(np.mean(exact)) if exact else 1.0, texts == decoded
