"""What inference servers say about themselves."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from retrain_backends.engines.server import Server, ServerError, base_address, new_client

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ServerAbout:
    """A server; `problem` is why nothing is known about it, `version` empty if it does not say."""

    url: str
    model: str = ""
    context: int | None = None
    version: str = ""
    problem: str = ""


def about_servers(urls: Sequence[str], version_path: str) -> list[ServerAbout]:
    """Ask every server for its model and its version, at once.

    Args:
      urls: their addresses.
      version_path: where servers of this kind say their version; empty if they do not.
    """
    return asyncio.run(_about_all(urls, version_path))


async def _about_all(urls: Sequence[str], version_path: str) -> list[ServerAbout]:
    async with new_client(_TIMEOUT_S) as client:
        servers = [Server(base_address(url), client) for url in urls]
        return await asyncio.gather(*(_about(server, version_path) for server in servers))


async def _about(server: Server, version_path: str) -> ServerAbout:
    try:
        await server.find_model()
    except ServerError as error:
        return ServerAbout(server.url, problem=str(error))
    version = await server.find_version(version_path) if version_path else ""
    return ServerAbout(server.url, server.model, server.context, version)
