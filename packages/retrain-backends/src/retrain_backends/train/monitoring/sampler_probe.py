"""A look at a sampler before it is trusted: is what it returns what training takes it for?

A few tokens are sampled at a low temperature and at 1, and scored by the trainer. What the two say
of the same tokens tells what the engine's log-probs are:

    at the sampling temperature      agrees at both temperatures: what training needs
    at temperature 1 whatever        agrees at 1 only, and with the trainer's at 1 at the other one
    of a truncated distribution      above the trainer's for every token, by the mass cut away
    of other tokens, or another model    the trainer finds the tokens implausible

For a trainer that computes at temperature 1 only (`TrainerCapabilities.temperature`) neither of the
first two is a defect; they differ in what its ratios then mean (`consequence`). They are told apart
by the tokens of the low temperature, whose log-probs lie above the trainer's or agree with them.

A new adapter changes nothing, so whether the engine uses the one that is trained shows only after
an optimiser step: then the engine must agree with the trainer as well as before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from retrain_backends.group_sampling import GroupSampling
from retrain_backends.protocols import Backend
from retrain_backends.randomness import Purpose
from retrain_backends.tokenizer import Tokenizer
from retrain_backends.train.monitoring.logprob_kind import (
    COLD,
    DISTANCES,
    FEWEST,
    HOT,
    LogprobKind,
    distance,
    explain,
    explain_at_1,
)
from retrain_backends.types import Completion, Floats, SamplingParams, Tokens

AdapterUse: TypeAlias = Literal["active", "inactive", "undecided"]

_GROUP, _TOKENS = 4, 8  # completions of a prompt, and tokens of each


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found. `defects` are keys of `DEFECTS`; no defect, and nothing is known wrong.

    `logprobs`: what the engine's log-probs are; "undecided" when the tokens are too few, or so
    certain that all kinds agree. `round_trip_share`: share of the completions whose very ids come
    back from the tokenizer; below 1 is no defect by itself, since a text can be cut into tokens in
    several ways. `distance_nats`: mean distance of engine and trainer, by what was compared.
    """

    logprobs: LogprobKind
    round_trip_share: float
    defects: tuple[str, ...]
    distance_nats: Mapping[str, float]
    tokens: int


@dataclass(frozen=True)
class _Look:
    """Tokens sampled at one temperature, with the log-probs of the engine, end to end."""

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
      backend: what samples and trains.
      tokenizer: the trainer's.
      prompts: one or two prompts to sample from.
      sampling: how the run samples; the probe takes its seed, stop tokens and `max_tokens`.
      step: number of the next step, which names the random streams.
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
        self._before: tuple[_Look, Floats] | None = None

    def look(self) -> ProbeResult:
        """Sample, score, and say what the engine returns; remembers it for `adapter_use`."""
        hot, cold = self._sample(HOT), self._sample(COLD)
        ids = [*hot.ids, *cold.ids]
        exact, readable = self._round_trips(ids)
        tokens = sum(map(len, ids))
        temperature = self._backend.capabilities.trainer.temperature
        shapes = all(row.tokens_T.shape == row.logprobs_T.shape for row in [*hot.rows, *cold.rows])
        if not shapes or not all(map(self._is_known, ids)):
            return ProbeResult("unexplained", exact, ("wrong_ids",), {}, tokens)
        hot_scores = hot.scored(self._backend, HOT)
        self._before = hot, hot_scores
        raw_scores = cold.scored(self._backend, HOT)
        excess = {
            "hot": hot.logprobs_t - hot_scores,
            "raw": cold.logprobs_t - raw_scores,
        }
        if temperature:
            excess["cold"] = cold.logprobs_t - cold.scored(self._backend, COLD)
            kind, defect = explain(excess)
        else:
            surprisal = {"hot": distance(hot_scores), "cold": distance(raw_scores)}
            kind, defect = explain_at_1(excess, surprisal)
        defects = [*([defect] if defect else []), *([] if readable else ["no_round_trip"])]
        distances = {DISTANCES[name]: distance(part) for name, part in excess.items()}
        return ProbeResult(kind, exact, tuple(defects), distances, tokens)

    def adapter_use(self) -> AdapterUse:
        """Whether the engine samples from the adapter as it is trained, now that it has moved.

        An engine that does agrees with the trainer as it did in `look`; one that does not is as far
        from it as training has moved the policy since. "undecided" while that is no more than
        rounding, as before the first optimiser step.
        """
        if self._before is None:
            return "undecided"
        before, old_scores = self._before
        moved = distance(before.scored(self._backend, HOT) - old_scores)
        noise = distance(before.logprobs_t - old_scores)
        if before.logprobs_t.size < FEWEST or moved <= 3 * noise:
            return "undecided"
        now = self._sample(HOT)
        if now.logprobs_t.size < FEWEST:
            return "undecided"
        apart = distance(now.logprobs_t - now.scored(self._backend, HOT))
        if apart <= moved / 3:
            return "active"
        return "inactive" if np.isfinite(moved) and apart >= 2 * moved / 3 else "undecided"

    def _sample(self, temperature: float) -> _Look:
        sampling = replace(
            self._sampling,
            group_size=_GROUP,
            max_tokens=min(_TOKENS, self._sampling.max_tokens),
            params=SamplingParams(temperature, self._sampling.params.stop_token_ids),
        )
        groups = sampling.sample(self._backend.sampler, self._prompts, Purpose.PROBE, self._step)
        pairs = zip(self._prompts, groups, strict=True)
        return _Look(
            [prompt for prompt, group in pairs for _ in group],
            [row for group in groups for row in group],
        )

    def _is_known(self, ids: Tokens) -> bool:
        return bool(((ids >= 0) & (ids < self._tokenizer.vocabulary_size)).all())

    def _round_trips(self, rows: Sequence[Tokens]) -> tuple[float, bool]:
        """Share of rows whose ids come back, and whether the text of all of them does."""
        texts = ["".join(self._tokenizer.token_texts(ids)) for ids in rows]
        prefix = len(self._tokenizer.encode(""))
        back = [self._tokenizer.encode(text)[prefix:] for text in texts]
        exact = [np.array_equal(ids, again) for ids, again in zip(rows, back, strict=True)]
        again = ["".join(self._tokenizer.token_texts(ids)) for ids in back]
        return float(np.mean(exact)) if exact else 1.0, texts == again
