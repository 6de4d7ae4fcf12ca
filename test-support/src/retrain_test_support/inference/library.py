"""An engine in this process, as a plugin: its dialect, and what samples without a server."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from retrain_backends.config import PolicySettings
from retrain_backends.engines.logprob_kind import LogprobKind
from retrain_backends.engines.openai import OpenaiDialect
from retrain_backends.randomness import service_seed
from retrain_backends.tokenizer import resolve_model
from retrain_backends.types import Completion, Request, SampledGroups, SamplingParams
from retrain_test_support.inference.model import ReferenceModel


class LibraryDialect(OpenaiDialect):
    """A dialect that needs no server."""

    in_process: ClassVar[str] = "retrain_test_support.inference.library:Library"


class Library:
    """Samples with transformers and peft."""

    logprobs: LogprobKind = "tempered"

    def __init__(self, settings: PolicySettings) -> None:
        self._model = ReferenceModel(str(resolve_model(settings.model.model)))

    def load(self, name: str, directory: str) -> None:
        """Load an adapter."""
        self._model.load(name, directory)

    def unload(self, name: str) -> None:
        """Forget an adapter."""
        self._model.unload(name)

    def sample(
        self, requests: Sequence[Request], params: SamplingParams, adapter: str
    ) -> SampledGroups:
        """One request after the other."""
        for index, request in enumerate(requests):
            rows = self._model.sample(
                request.prompt_T.tolist(),
                len(request.samples),
                adapter=adapter,
                max_tokens=request.max_tokens,
                temperature=params.temperature,
                stop=list(params.stop_token_ids),
                seed=service_seed(request.key.stream(request.samples[0])),
            )
            yield (
                index,
                [
                    Completion(
                        np.asarray(row.tokens, np.int64),
                        np.asarray(row.tempered, np.float64),
                        "stop" if row.finished == "stop" else "length",
                    )
                    for row in rows
                ],
            )

    def sample_everywhere(
        self, request: Request, params: SamplingParams, adapter: str
    ) -> Mapping[str, list[Completion]]:
        """The model in this process."""
        [(_, group)] = self.sample([request], params, adapter)
        return {"this process": group}

    def rest(self) -> None:
        """Nothing: both models fit."""

    def close(self, adapters: Iterable[str] = ()) -> None:
        """Forget the adapters."""
        for name in adapters:
            self.unload(name)
