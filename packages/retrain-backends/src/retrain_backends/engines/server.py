"""One inference server: its address, its model, and calls to it."""

import os
from dataclasses import dataclass
from typing import Any

import httpx

from retrain_backends.engines.dialect import Call
from retrain_backends.errors import RetrainError, describe, one_line

API_KEY = "RETRAIN_INFERENCE_API_KEY"
_CONNECT_S = 10.0
_LONGEST_REASON = 300
_BUSY = {
    httpx.codes.TOO_MANY_REQUESTS,
    httpx.codes.BAD_GATEWAY,
    httpx.codes.SERVICE_UNAVAILABLE,
    httpx.codes.GATEWAY_TIMEOUT,
}
_INVALID = {httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY}


class ServerError(RetrainError):
    """A server did not do what it was asked to do."""


class UnreachableError(ServerError):
    """A server cannot be reached or is busy; it may answer later."""


class RefusedError(ServerError):
    """A server refuses a request, and would refuse it again."""


class InvalidRequestError(RefusedError):
    """A server does not understand a request (400, 422)."""


class FailedError(ServerError):
    """A server has failed with a request, or answers what is no answer; it may succeed again."""


def base_address(url: str) -> str:
    """The address without the path that other clients need."""
    return url.rstrip("/").removesuffix("/v1")


def new_client(timeout_s: float) -> httpx.AsyncClient:
    """A client for servers, with the key of the environment."""
    key = os.environ.get(API_KEY)
    return httpx.AsyncClient(
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
        limits=httpx.Limits(max_connections=None, keepalive_expiry=60.0),
    )


@dataclass
class Server:
    """One address.

    Attributes:
      model: its name for the model without an adapter.
      context: the largest number of tokens that it accepts, None if unknown.
    """

    url: str
    client: httpx.AsyncClient
    model: str = ""
    context: int | None = None

    async def find_model(self) -> None:
        """Ask about the model that the server has.

        Raises:
          UnreachableError, RefusedError, FailedError: it does not say.
        """
        answer = await self._request("GET", "/v1/models", None)
        # A border: what answers may be anything.
        try:
            models = [row for row in answer["data"] if not row.get("parent")]
            self.model = models[0]["id"]
            self.context = models[0].get("max_model_len")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise FailedError(
                f"{self.url}/v1/models names no model ({describe(error)}); is it an inference"
                " server? inference.url is its address without a path"
            ) from error

    async def find_version(self, path: str) -> str:
        """The version of its software; empty if it does not say."""
        try:
            return str((await self._request("GET", path, None))["version"])
        except (ServerError, KeyError, TypeError):  # not worth an error
            return ""

    async def post(self, call: Call) -> Any:
        """The JSON of the answer.

        Raises:
          UnreachableError, RefusedError, FailedError: there is none.
        """
        return await self._request("POST", call.path, call.body)

    async def _request(self, method: str, path: str, body: object) -> Any:
        endpoint = f"{self.url}{path}"
        # A border: the network.
        try:
            response = await self.client.request(method, endpoint, json=body)
        except httpx.HTTPError as error:
            raise UnreachableError(f"{endpoint} does not answer ({describe(error)})") from error
        if response.is_success:
            return _json(endpoint, response)
        line = f"{endpoint} answers {response.status_code}: {_reason(response)}"
        if response.status_code in _BUSY:
            raise UnreachableError(line)
        if response.is_server_error:
            raise FailedError(line)
        if response.status_code in _INVALID:
            raise InvalidRequestError(line)
        raise RefusedError(line)


def _json(endpoint: str, response: httpx.Response) -> Any:
    if not response.headers.get("content-type", "").startswith("application/json"):
        return response.text  # as `Success: LoRA adapter ... added`
    try:
        return response.json()
    except ValueError as error:
        raise FailedError(f"{endpoint} answers with broken JSON ({describe(error)})") from error


def _reason(response: httpx.Response) -> str:
    """The server's own message, shortened."""
    try:
        told = response.json()
        inner = told.get("error", told)
        text = inner.get("message", inner) if isinstance(inner, dict) else inner
    except (ValueError, AttributeError):
        text = response.text
    return one_line(str(text))[:_LONGEST_REASON] or response.reason_phrase
