"""Requests and answers of the test server's HTTP interface."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from retrain_test_support.tinker.failures import RequestKind

JSON = "application/json"


class ApiError(Exception):
    """An HTTP answer other than 200."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class ApiRequest(NamedTuple):
    """What a handler needs of an HTTP request; `groups` are the variable parts of its path."""

    body: bytes
    content_type: str
    groups: tuple[str, ...]
    host: str

    def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        return json.loads(self.body or b"{}")


class ApiResponse(NamedTuple):
    """The body of a 200, or of a redirect to `location`."""

    body: bytes
    content_type: str = JSON
    location: str = ""


Handler = Callable[[ApiRequest], ApiResponse]


class Route(NamedTuple):
    """A path's handler."""

    pattern: re.Pattern[str]
    kind: RequestKind
    handler: Handler


def route(where: str, kind: RequestKind, handler: Handler) -> Route:
    """A route for `METHOD path`, a regular expression without the API's prefix."""
    method, path = where.split(" ")
    return Route(re.compile(f"{method} /api/v1/{path}"), kind, handler)


def json_response(value: Mapping[str, Any]) -> ApiResponse:
    """A JSON object."""
    return ApiResponse(json.dumps(value).encode())
