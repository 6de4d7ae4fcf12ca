"""Samples on inference servers over HTTP, for code that is not asynchronous."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from retrain_backends.engines.logprob_kind import LogprobKind
from retrain_backends.engines.sampling_server import Exchange
from retrain_backends.engines.server import Server, ServerError
from retrain_backends.engines.servers import Servers, ServerSettings
from retrain_backends.errors import RunError
from retrain_backends.loop_thread import LoopThread
from retrain_backends.types import Completion, Request, SampledGroups, SamplingParams
from retrain_backends.waiting import RESUME_HINT, Waiting

T = TypeVar("T")

_TIMEOUT = "inference.timeout_s"
_CLOSE_S = 5.0  # for unloading adapters at the end


class Fleet:
    """Servers of one kind, which all sample from the same adapter."""

    def __init__(self, exchange: Exchange, settings: ServerSettings) -> None:
        self.logprobs: LogprobKind = exchange.dialect.logprobs
        self._servers = Servers(exchange, settings)
        self._limit_s = settings.timeout_s
        self._loop = LoopThread(self._servers.close, "engine")
        self._waiting = Waiting(
            self._servers.names,
            lambda: self._loop.run(self._servers.check()),
            settings.timeout_s,
            _TIMEOUT,
        )

    def connect(self) -> list[Server]:
        """Ask every server for its model; returns those that answer.

        Raises:
          RunError: none answers, or one is no inference server.
        """
        return self._result(self._loop.run(self._servers.connect()), "connecting")

    def load(self, name: str, directory: str) -> None:
        """Load an adapter on every server that answers, or on none.

        Raises:
          RunError: a server refuses it, or none answers in time.
        """
        self._result(self._loop.run(self._servers.load(name, directory)), "loading the adapter")

    def unload(self, name: str) -> None:
        """Unload an adapter."""
        self._result(self._loop.run(self._servers.unload(name)), "unloading an adapter")

    def sample(
        self, requests: Sequence[Request], params: SamplingParams, adapter: str
    ) -> SampledGroups:
        """Sample from an adapter that was loaded.

        Raises:
          RunError: a server refuses a request, or there is no answer in time.
        """
        running = {
            self._loop.run(self._servers.sample(request, params, adapter)): index
            for index, request in enumerate(requests)
        }
        return self._groups(running)

    def sample_everywhere(
        self, request: Request, params: SamplingParams, adapter: str
    ) -> Mapping[str, list[Completion]]:
        """All completions of a request from each server that answers, by its address."""
        work = self._servers.sample_everywhere(request, params, adapter)
        return self._result(self._loop.run(work), "checking the adapter")

    def rest(self) -> None:
        """Nothing: servers have memory of their own."""

    def close(self, adapters: Iterable[str] = ()) -> None:
        """Unload adapters, as far as servers answer within seconds; close the connections."""
        unloaded = [self._loop.run(self._servers.unload(name)) for name in adapters]
        wait(unloaded, _CLOSE_S)
        self._loop.close()

    def _groups(self, running: dict[Future[list[Completion]], int]) -> SampledGroups:
        try:
            while running:
                for future in self._until(running, "sampling"):
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()

    def _result(self, future: Future[T], doing: str) -> T:
        self._until([future], doing)
        try:
            return future.result()
        except ServerError as error:
            raise RunError(str(error)) from error

    def _until(self, futures: Any, doing: str) -> set[Future[Any]]:
        """Those that are done, one at least."""
        try:
            return self._waiting.until(
                lambda most_s: wait(futures, most_s, FIRST_COMPLETED).done, doing
            )
        except TimeoutError:
            for future in futures:
                future.cancel()
            raise RunError(
                f"{self._servers.names}: {doing}: no answer within {self._limit_s:g} s"
                f" ({_TIMEOUT}); {RESUME_HINT}"
            ) from None
