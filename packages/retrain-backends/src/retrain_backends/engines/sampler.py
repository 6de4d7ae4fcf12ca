"""Samples from the adapter that is trained, on an engine that gets every version of it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from retrain_backends.engines.adapter_files import AdapterFiles
from retrain_backends.engines.batch_invariance import refuse_batch_dependence
from retrain_backends.engines.canary import Policy, Version, compare
from retrain_backends.engines.engine import Engine
from retrain_backends.engines.logprob_kind import COLD, HOT, LogprobKind, classify
from retrain_backends.errors import ConfigError, RunError
from retrain_backends.protocols import Trainer
from retrain_backends.randomness import Purpose
from retrain_backends.types import (
    Completion,
    Facts,
    Floats,
    Request,
    SampledGroups,
    SamplingParams,
    StreamKey,
    Usage,
)

log = logging.getLogger(__name__)

_ROWS, _TOKENS = 4, 16  # of a comparison with the trainer
_FIGURES: tuple[str, ...] = ("handover_s", "canary_s", "rescore_s")
_OTHER_MODEL = 0.5  # nats a token between sampler and trainer, from which the models differ
_SAMPLES_FROM: dict[Version, str] = {
    "earlier": "the adapter of an earlier step",
    "base": "the model without an adapter",
}


class EngineSampler:
    """The sampler of a policy whose completions come from inference servers.

    Before it samples, every server gets the newest adapter and is compared with the trainer
    (`canary.py`). Log-probs that are not those of the sampling temperature are replaced by the
    trainer's.

    Args:
      engine: the servers, connected, or a library in this process.
      trainer: trains the policy.
      policy: its adapter.
      files: the directories through which adapters are handed over.
      facts: about the engine.
      recompute: whether the trainer computes all log-probs; None if only those that need it.
      batch_invariance: how to start an engine whose completions must not depend on others in their
        batch; empty if they may.
    """

    def __init__(
        self,
        engine: Engine,
        trainer: Trainer,
        policy: Policy,
        files: AdapterFiles,
        facts: Facts,
        *,
        recompute: bool | None,
        batch_invariance: str = "",
    ) -> None:
        self.facts = facts
        self._engine = engine
        self._trainer = trainer
        self._policy = policy
        self._files = files
        self._recompute = recompute
        self._batch_invariance = batch_invariance
        self._kind: LogprobKind | None = None
        self._canary_request: Request | None = None
        self._loaded: dict[int, str] = {}
        self._figures: dict[str, float] = dict.fromkeys(_FIGURES, 0.0)

    def sample(self, requests: Sequence[Request], params: SamplingParams) -> SampledGroups:
        """Sample with the newest adapter.

        Raises:
          RunError: a server does not use it, refuses a request, or does not answer in time.
          ConfigError: the trainer would have to compute log-probs while it trains.
        """
        if not requests:
            return self._engine.sample((), params, adapter="")
        name = self._hand_over(requests[0])
        needs_trainer = self._needs_trainer(params, requests[0], name)
        if needs_trainer and self.facts.steps_off_policy:
            raise ConfigError(
                "inference.max_steps_off_policy: `1`, but the trainer has to compute the log-probs"
                " of what is sampled while it trains; leave it at 0, or configure the engine to"
                " return those of the sampling temperature"
            )
        groups = self._engine.sample(requests, params, name)
        return self._rescored(groups, requests, params) if needs_trainer else groups

    def usage(self) -> Usage:
        """Seconds of the hand-over and of the trainer's log-probs since the last call."""
        figures, self._figures = self._figures, dict.fromkeys(_FIGURES, 0.0)
        return Usage(figures)

    def rest(self) -> None:
        """Free memory that the trainer needs for a step."""
        self._engine.rest()

    def close(self) -> None:
        """Unload the adapters, close the connections."""
        self._engine.close(self._loaded.values())
        self._files.close()

    def _hand_over(self, request: Request) -> str:
        """Give the servers the newest adapter, unless they have it; returns its name."""
        version = self._policy.version
        if version in self._loaded:
            return self._loaded[version]
        started = time.perf_counter()
        name = f"retrain-{self._files.name}-v{version}"
        directory = self._files.write(version, self._policy.export)
        self._engine.load(name, str(directory))
        self._count("handover_s", started)
        self._loaded[version] = name
        self._check(name, request)
        for old in sorted(self._loaded)[:-2]:
            self._engine.unload(self._loaded.pop(old))
        return name

    def _check(self, name: str, request: Request) -> None:
        """Compare every server with the trainer."""
        started = time.perf_counter()
        if self._canary_request is None:
            key = StreamKey(request.key.seed, Purpose.PROBE, 0, 0)
            tokens = min(_TOKENS, request.max_tokens)
            self._canary_request = Request(request.prompt_T, key, range(_ROWS), tokens)
        places = self._engine.sample_everywhere(self._canary_request, SamplingParams(HOT, ()), name)
        found = {self._version_on(place, name, rows) for place, rows in places.items()}
        if found == {"newest"}:
            self._policy.keep()
        if self._batch_invariance and refuse_batch_dependence(
            self._engine, self._canary_request, name, self._batch_invariance
        ):
            self._batch_invariance = ""  # once is enough
        self._count("canary_s", started)

    def _version_on(self, place: str, name: str, rows: Sequence[Completion]) -> Version | None:
        assert self._canary_request is not None
        found = compare(self._policy, self._canary_request.prompt_T, rows)
        if found.distance > _OTHER_MODEL:
            raise RunError(
                f"{place}: its log-probs are {found.distance:.2g} nats a token from the"
                " trainer's: it has another model than model.model, computes it in another way, or"
                " its log-probs belong to other tokens"
            )
        if found.version in _SAMPLES_FROM:
            raise RunError(
                f"{place} samples from {_SAMPLES_FROM[found.version]}, although it has"
                f" accepted `{name}`; see whether it was started with LoRA for this model, and"
                " restart it"
            )
        return found.version

    def _needs_trainer(self, params: SamplingParams, request: Request, name: str) -> bool:
        if self._recompute is not None:
            return self._recompute
        if params.temperature in (0.0, 1.0):  # raw and tempered log-probs are the same at 1
            return False
        if self._kind is None:
            self._kind = self._measure(request, name)
            if self._kind == "raw":
                log.warning(
                    "%s returns log-probs at temperature 1: the trainer computes those at the"
                    " sampling temperature, with one more pass (inference.logprobs)",
                    self.facts.engine,
                )
        return self._kind == "raw"

    def _measure(self, request: Request, name: str) -> LogprobKind:
        """The kind of the engine's log-probs, by comparison with the trainer's."""
        key = replace(request.key, purpose=Purpose.PROBE)
        asked = replace(request, key=key, samples=range(_ROWS))
        hot, cold = (self._sampled(asked, temperature, name) for temperature in (HOT, COLD))
        excess = {
            "hot": self._excess(asked, hot, HOT),
            "cold": self._excess(asked, cold, COLD),
            "raw": self._excess(asked, cold, HOT),
        }
        kind = classify(excess)[0]
        return self._engine.logprobs if kind == "undecided" else kind

    def _sampled(self, request: Request, temperature: float, name: str) -> list[Completion]:
        groups = self._engine.sample([request], SamplingParams(temperature, ()), name)
        return [row for _, group in groups for row in group]

    def _excess(self, request: Request, rows: Sequence[Completion], temperature: float) -> Floats:
        """Differences of the engine's log-probs from the trainer's."""
        scores = np.concatenate(self._scores(request, rows, temperature))
        return np.concatenate([row.logprobs_T for row in rows]) - scores

    def _scores(
        self, request: Request, rows: Sequence[Completion], temperature: float
    ) -> list[Floats]:
        prompts = [request.prompt_T] * len(rows)
        return self._trainer.score(prompts, [row.tokens_T for row in rows], temperature)

    def _rescored(
        self, groups: SampledGroups, requests: Sequence[Request], params: SamplingParams
    ) -> SampledGroups:
        """The groups with the trainer's log-probs."""
        try:
            for index, group in groups:
                started = time.perf_counter()
                scores = self._scores(requests[index], group, params.temperature)
                self._count("rescore_s", started)
                pairs = zip(group, scores, strict=True)
                yield index, [replace(row, logprobs_T=scores_T) for row, scores_T in pairs]
        finally:
            groups.close()

    def _count(self, figure: str, started: float) -> None:
        self._figures[figure] += time.perf_counter() - started
