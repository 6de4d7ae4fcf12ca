"""One inference server that samples for a policy."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from retrain_backends.engines.base_weights import BaseWeights
from retrain_backends.engines.dialect import Asked, Call, Dialect
from retrain_backends.engines.server import (
    FailedError,
    InvalidRequestError,
    RefusedError,
    Server,
)
from retrain_backends.errors import RunError, describe
from retrain_backends.randomness import service_seed
from retrain_backends.tokenizer import Tokenizer
from retrain_backends.types import Completion, Request, SamplingParams


@dataclass(frozen=True)
class Exchange:
    """How a server is asked, and what its answers must be.

    Args:
      dialect: of the server.
      vocabulary: number of token ids of the model.
      as_text: whether prompts are sent as texts.
      tokenizer: loads that of the model; called where texts are exchanged.
    """

    dialect: Dialect
    vocabulary: int
    as_text: bool
    tokenizer: Callable[[], Tokenizer]


@dataclass
class SamplingServer:
    """A server with the adapters of a policy.

    Attributes:
      loaded: the adapters that it has.
      outstanding: requests in flight.
      silent_since: when it was left out, on the clock of the event loop; None while it is used.
    """

    server: Server
    exchange: Exchange
    loaded: set[str] = field(default_factory=set)
    outstanding: int = 0
    silent_since: float | None = None
    reviving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def url(self) -> str:
        """Its address."""
        return self.server.url

    async def base_weights(self) -> BaseWeights | None:
        """The checksums of its base weights; None if it does not compute them.

        Raises:
          UnreachableError: it does not answer.
        """
        call = self.exchange.dialect.checksums
        if call is None:
            return None
        # A border: few servers have this, and what others answer may be anything.
        try:
            checksums = self.exchange.dialect.checksums_in(await self.server.post(call))
            return BaseWeights(self.url, dict(checksums))
        except (RefusedError, FailedError, KeyError, TypeError, ValueError, AttributeError):
            return None

    async def load(self, name: str, directory: str) -> None:
        """Load an adapter.

        Raises:
          UnreachableError: it does not answer.
          RunError: it refuses the adapter.
        """
        dialect = self.exchange.dialect
        try:
            answer = await self.server.post(dialect.loading(name, directory))
        except (FailedError, RefusedError) as error:
            if "already" in str(error):  # a server that was left out has it still
                self.loaded.add(name)
                return
            raise RunError(
                f"{error}: the server must be started {dialect.lora}, and be able to read the"
                f" adapter in {directory} (inference.adapter_dir)"
            ) from error
        if isinstance(answer, dict) and answer.get("success") is False:
            raise RunError(f"{self.url}: {answer.get('error_message') or answer}")
        self.loaded.add(name)

    async def unload(self, name: str) -> None:
        """Unload an adapter that is loaded.

        Raises:
          UnreachableError, RefusedError, FailedError: it does not.
        """
        self.loaded.discard(name)
        await self.server.post(self.exchange.dialect.unloading(name))

    async def sample(
        self, request: Request, params: SamplingParams, adapter: str
    ) -> list[Completion]:
        """All completions of a request.

        Raises:
          UnreachableError, RefusedError, FailedError: it does not answer, or not with that.
        """
        calls = self._calls(request, params, adapter)
        self.outstanding += 1
        try:
            answers = await asyncio.gather(*map(self._complete, calls))
        finally:
            self.outstanding -= 1
        group = [row for answer in answers for row in self._read(answer, len(request.prompt_T))]
        count = len(request.samples)
        if len(group) != count:
            raise FailedError(f"{self.url} sent {len(group)} completions instead of {count}")
        largest = max(int(row.tokens_T.max()) for row in group)
        if largest >= self.exchange.vocabulary:
            raise RefusedError(
                f"{self.url} sent the token id {largest}, which is beyond the vocabulary of"
                f" model.model ({self.exchange.vocabulary}): it serves another model"
            )
        return group

    def _calls(self, request: Request, params: SamplingParams, adapter: str) -> list[Call]:
        seed, count = service_seed(request.key.stream(request.samples[0])), len(request.samples)
        dialect = self.exchange.dialect
        prompt: list[int] | str = request.prompt_T.tolist()
        if self.exchange.as_text:
            prompt = self.exchange.tokenizer().exact_text(request.prompt_T) or ""
        together = [count] if dialect.groups else [1] * count
        return [
            dialect.completion(
                Asked(prompt, size, request.max_tokens, params, adapter, seed + first)
            )
            for first, size in enumerate(together)
        ]

    async def _complete(self, call: Call) -> Any:
        try:
            return await self.server.post(call)
        except InvalidRequestError as error:
            if self.exchange.as_text:
                raise
            raise InvalidRequestError(
                f'{error}; if it takes no token ids as a prompt, set inference.prompts = "text"'
            ) from error

    def _read(self, answer: Any, prompt_length: int) -> list[Completion]:
        dialect = self.exchange.dialect
        # A border: what a server sends may be anything.
        try:
            counted = dialect.prompt_length(answer) if self.exchange.as_text else None
            group = dialect.completions(answer, self._ids_of)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise FailedError(
                f"{self.url} sent what is no completion ({describe(error)})"
            ) from error
        if counted not in (None, prompt_length):
            raise RefusedError(
                f"{self.url} has encoded the text of a prompt into {counted} tokens instead of"
                f" {prompt_length}: its tokenizer is not that of model.model, or it adds other"
                ' special tokens; use a server that takes token ids (inference.prompts = "ids")'
            )
        return group

    def _ids_of(self, texts: Sequence[str]) -> list[int]:
        try:
            return self.exchange.tokenizer().exact_ids(texts)
        except ValueError as error:
            raise RefusedError(
                f"{self.url} sent texts instead of token ids, and {error}: start it so that it"
                " returns ids, or use another server"
            ) from error
