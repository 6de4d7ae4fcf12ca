"""Asks one or several inference servers, on an event loop."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from retrain_backends.engines.base_weights import BaseWeights
from retrain_backends.engines.sampling_server import Exchange, SamplingServer
from retrain_backends.engines.server import (
    FailedError,
    RefusedError,
    Server,
    ServerError,
    UnreachableError,
    base_address,
    new_client,
)
from retrain_backends.errors import RunError
from retrain_backends.types import Completion, Request, SamplingParams
from retrain_backends.waiting import RESUME_HINT

log = logging.getLogger(__name__)

_RETRY_S = 2.0
_TRIES = 3  # of a request with which servers fail
_SPREAD = 4  # requests that the server of a prompt may have more than the least busy one


@dataclass(frozen=True)
class ServerSettings:
    """How servers are asked.

    Args:
      urls: their addresses.
      at_once: requests in flight at a server.
      timeout_s: longest wait for a result.
      retry_s: how long a server that does not answer is left out.
    """

    urls: Sequence[str]
    at_once: int
    timeout_s: float
    retry_s: float = _RETRY_S


class Servers:
    """Servers that all have the same model and the same adapters; used on one event loop.

    The requests of a prompt go to the same server, whose cache has its prefix, unless that is much
    busier than another. A server that does not answer is left out, and tried again; when it is back
    its base weights are compared, and it gets the newest adapter before any request.
    """

    def __init__(self, exchange: Exchange, settings: ServerSettings) -> None:
        self._retry_s = settings.retry_s
        self._client = new_client(settings.timeout_s)
        self._all = [
            SamplingServer(Server(base_address(url), self._client), exchange)
            for url in settings.urls
        ]
        self._room = asyncio.Semaphore(settings.at_once * len(self._all))
        self._newest: tuple[str, str] | None = None
        self._weights: BaseWeights | None = None
        self.names = ", ".join(server.url for server in self._all)

    @property
    def in_use(self) -> list[SamplingServer]:
        """The servers that are not left out."""
        return [server for server in self._all if server.silent_since is None]

    async def connect(self) -> list[Server]:
        """Ask every server for its model; returns those that answer.

        Raises:
          RunError: none answers, or they have different base weights.
          RefusedError, FailedError: one is no inference server.
        """
        outcomes = await self._found()
        for server, outcome in zip(self._all, outcomes, strict=True):
            if isinstance(outcome, UnreachableError):
                self._leave_out(server, outcome)
            elif outcome is not None:
                raise outcome
        if not self.in_use:
            raise RunError(f"{outcomes[0]}; start the server, or correct inference.url")
        for server in self.in_use:
            try:
                await self._compare_weights(server)
            except UnreachableError as error:
                self._leave_out(server, error)
        return [member.server for member in self.in_use]

    async def check(self) -> None:
        """Raise what a server says if none of them answers."""
        outcomes = await self._found()
        if all(outcomes) and outcomes[0]:
            raise outcomes[0]

    async def load(self, name: str, directory: str) -> None:
        """Load an adapter on every server that answers, or on none.

        Raises:
          RunError: a server refuses it.
        """
        self._newest = name, directory
        while not any(name in server.loaded for server in self.in_use):
            servers = self.in_use or [await self._next_server(0)]
            loads = (self._load_if_it_answers(server, name, directory) for server in servers)
            outcomes = await asyncio.gather(*loads, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    await self.unload(name)
                    raise outcome

    async def unload(self, name: str) -> None:
        """Unload an adapter where it is loaded."""
        for server in self._all:
            if name not in server.loaded:
                continue
            try:
                await server.unload(name)
            except UnreachableError as error:
                self._leave_out(server, error)
            except (RefusedError, FailedError) as error:
                log.warning("an adapter that is no longer needed stays loaded: %s", error)

    async def sample(
        self, request: Request, params: SamplingParams, adapter: str
    ) -> list[Completion]:
        """All completions of a request; if a server does not answer, another one is asked.

        Raises:
          RunError: a server refuses the request, or servers fail with it several times.
        """
        failures = 0
        async with self._room:
            while True:
                server = await self._next_server(crc32(request.prompt_T.tobytes()))
                try:
                    return await server.sample(request, params, adapter)
                except UnreachableError as error:
                    self._leave_out(server, error)
                except FailedError as error:
                    failures += 1
                    if failures == _TRIES:
                        raise RunError(f"{error}, {_TRIES} times; {RESUME_HINT}") from error
                    await asyncio.sleep(self._retry_s)  # one that is ending answers so, too
                except RefusedError as error:
                    raise RunError(f"{error}; {RESUME_HINT}") from error

    async def sample_everywhere(
        self, request: Request, params: SamplingParams, adapter: str
    ) -> dict[str, list[Completion]]:
        """All completions of a request from each server that answers, by its address."""

        async def sampled(server: SamplingServer) -> None:
            try:
                groups[server.url] = await server.sample(request, params, adapter)
            except UnreachableError as error:
                self._leave_out(server, error)

        groups: dict[str, list[Completion]] = {}
        await asyncio.gather(*map(sampled, self.in_use))
        return groups

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _found(self) -> list[BaseException | None]:
        """Ask every server for its model; None for one that says it."""
        asked = (server.server.find_model() for server in self._all)
        return await asyncio.gather(*asked, return_exceptions=True)

    async def _compare_weights(self, server: SamplingServer) -> None:
        """Refuse a server whose base weights are not those of the first that computes checksums."""
        found = await server.base_weights()
        if found and self._weights:
            self._weights.refuse_other(found)
        self._weights = self._weights or found

    async def _load_if_it_answers(self, server: SamplingServer, name: str, directory: str) -> None:
        try:
            await server.load(name, directory)
        except UnreachableError as error:
            self._leave_out(server, error)

    async def _next_server(self, affinity: int) -> SamplingServer:
        """The server for a prompt; waits until one answers."""
        while True:
            await asyncio.gather(*map(self._revive, self._to_be_tried()))
            if servers := self.in_use:
                least = min(servers, key=lambda server: server.outstanding)
                own = servers[affinity % len(servers)]
                return own if own.outstanding <= least.outstanding + _SPREAD else least
            await asyncio.sleep(self._retry_s / 4)

    def _to_be_tried(self) -> list[SamplingServer]:
        now = asyncio.get_running_loop().time()
        return [
            server
            for server in self._all
            if server.silent_since is not None and now - server.silent_since >= self._retry_s
        ]

    async def _revive(self, server: SamplingServer) -> None:
        """Use a server again if it answers; it may have been started anew, without adapters."""
        async with server.reviving:
            if server.silent_since is None:
                return
            try:
                await server.server.find_model()
                await self._compare_weights(server)
                server.loaded.clear()
                if self._newest:
                    await server.load(*self._newest)
            except ServerError as error:  # one that is starting may answer anything
                self._leave_out(server, error)
                return
            server.silent_since = None
            if len(self._all) > 1:
                log.warning("%s answers again", server.url)

    def _leave_out(self, server: SamplingServer, error: ServerError) -> None:
        if server.silent_since is None and len(self._all) > 1:
            log.warning("%s; it is left out, and tried again", error)
        server.silent_since = asyncio.get_running_loop().time()
