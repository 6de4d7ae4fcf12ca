"""A small Tinker service in this process, for tests of its clients.

    with TinkerServer(vocabulary=64, failures=Failures(error_share=0.3)) as server:
        client = tinker.ServiceClient(base_url=server.url, api_key="tml-any")

It speaks the wire format of the official SDK, 0.24 to 0.38, over real HTTP, and really trains: a
bigram model with a low-rank adapter (`policy.py`), whose gradients, Adam steps, samples and
checkpoints are exact. `Failures` injects failures, `Behaviour` sets what differs between services.
Nothing of the SDK is imported here.
"""

import hashlib
import json
import socket
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

from retrain_test_support.tinker.api import JSON, ApiError, ApiRequest, ApiResponse
from retrain_test_support.tinker.failures import Delivery, Failures, RequestKind
from retrain_test_support.tinker.futures import FutureTable
from retrain_test_support.tinker.models import (
    Behaviour,
    Executed,
    ServerContext,
    ServerLog,
    ServerState,
)
from retrain_test_support.tinker.policy import BigramPolicy, LoraWeights
from retrain_test_support.tinker.routes import Routes

__all__ = ["MODEL_NAME", "Behaviour", "Executed", "Failures", "RequestKind", "TinkerServer"]

MODEL_NAME = "retrain/bigram"


class TinkerServer:
    """A running service; a context manager.

    Args:
      model_dir: a model's directory, served under its own path: its `config.json` gives the number
        of tokens, the length of the context and the token that ends a text. None: only `MODEL_NAME`
        is served.
      vocabulary: number of tokens; None takes the model's, or 64.
      failures: the failures to inject.
      behaviour: what differs between services.
      seed: of the base model's weights.
      policy: the base model itself, with as many tokens as said above.

    Attributes:
      url: the service's address.
      failures: as given; may be changed at any time.
      behaviour: as given; may be changed at any time.
    """

    def __init__(
        self,
        model_dir: str | Path | None = None,
        *,
        vocabulary: int | None = None,
        failures: Failures | None = None,
        behaviour: Behaviour | None = None,
        seed: int = 0,
        policy: BigramPolicy | None = None,
    ) -> None:
        config = {} if model_dir is None else _model_config(Path(model_dir))
        self.failures = failures or Failures()
        self.behaviour = behaviour or Behaviour()
        self.behaviour.context_length = config.get(
            "max_position_embeddings", self.behaviour.context_length
        )
        self._log = ServerLog()
        names = (MODEL_NAME,) if model_dir is None else (MODEL_NAME, str(model_dir))
        tokens = vocabulary or config.get("vocab_size", 64)
        self._futures = FutureTable(
            self._log.errors.append, lambda: self.behaviour.forgets_requests
        )
        self._state = ServerState(tokens, names, self._futures)
        self._policy = policy or BigramPolicy(tokens, seed)
        context = ServerContext(
            policy=self._policy,
            eos=_end_tokens(config),
            state=self._state,
            failures=self.failures,
            log=self._log,
            behaviour=self.behaviour,
        )
        self._http = _Http(Routes(context), context)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._futures.close()
        if self._log.errors and error is None:
            raise RuntimeError("the test server broke") from self._log.errors[0]

    @property
    def policy(self) -> BigramPolicy:
        """The base model."""
        return self._policy

    @property
    def log(self) -> list[Executed]:
        """All operations so far, in order."""
        return list(self._log.events)

    def executed(self, what: str, model_id: str | None = None) -> list[Executed]:
        """The operations of one kind, for one model or for all.

        Args:
          what: create_session, create_model, forward, forward_backward, optim_step, sample, load,
            publish (a sampler of the current weights), save_weights, save_sampler_weights or
            save_external_weights.
          model_id: a training client's model.
        """
        return [
            each
            for each in self._log.events
            if each.what == what and model_id in (None, each.model_id)
        ]

    @property
    def most_samples_at_once(self) -> int:
        """The largest number of `sample` requests that were processed at once."""
        return self._log.most_at_once["sample"]

    @property
    def seeds(self) -> list[int | None]:
        """The seeds of all samples drawn."""
        return [each.details["seed"] for each in self.executed("sample")]

    @property
    def ttl_seconds(self) -> list[int | None]:
        """The time to live of every checkpoint saved."""
        saves = [each for each in self._log.events if each.what.startswith("save_")]
        return [each.details["ttl_seconds"] for each in saves]

    def adapter(self, model_id: str) -> LoraWeights:
        """A model's trained weights."""
        return self._state.models[model_id].adapter

    def digest(self, model_id: str) -> str:
        """A fingerprint of a model's trained weights."""
        adapter = self.adapter(model_id)
        return hashlib.sha256(adapter.a_VR.tobytes() + adapter.b_RV.tobytes()).hexdigest()

    def forget_sessions(self) -> None:
        """Drop all sessions, models and samplers, as the service may; checkpoints stay."""
        self._state.forget_sessions()


class _Http(ThreadingHTTPServer):
    """The HTTP server: threads, connections, and their failures."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, routes: Routes, context: ServerContext) -> None:
        self.routes = routes
        self.context = context
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        # Clients keep connections open, and the threads of these wait for requests.
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        # A client that disconnected is no error of the server.
        if error is not None and not isinstance(error, OSError):
            self.context.log.errors.append(error)
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def _http(self) -> _Http:
        return cast(_Http, self.server)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as inherited
        """Print nothing; `ServerLog` has what tests need."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # A border: an error of the API is sent as its answer.
        try:
            route, groups = self._http.routes.find(self.command, urlsplit(self.path).path)
            if route.kind is not RequestKind.FILE:
                self._check_key()
            delivery = self._http.context.failures.delivery(route.kind)
            if isinstance(delivery, int):
                raise ApiError(delivery, "made to fail by the test")
            if delivery is Delivery.DROPPED:
                self._drop()
                return
            answer = route.handler(self._request(body, groups))
            if delivery is Delivery.ANSWER_LOST:
                self._drop()
                return
            if delivery is Delivery.ANSWER_BROKEN:
                answer = answer._replace(body=b"{")
            self._send(302 if answer.location else 200, answer)
        except ApiError as error:
            self._send(error.status, ApiResponse(json.dumps({"detail": str(error)}).encode(), JSON))

    def _request(self, body: bytes, groups: tuple[str, ...]) -> ApiRequest:
        return ApiRequest(body, self.headers.get_content_type(), groups, self.headers["Host"])

    def _check_key(self) -> None:
        key = self._http.context.behaviour.key
        if key is not None and self.headers.get("X-API-Key") != key:
            raise ApiError(401, "invalid API key")

    def _drop(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, answer: ApiResponse) -> None:
        self.send_response(status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.location:
            self.send_header("Location", answer.location)
        # The SDK requests this over a connection that it neither uses again nor closes.
        if self.path.endswith("/client/config"):
            self.send_header("Connection", "close")
        wait_s = self._http.context.failures.retry_after_s
        if status >= 400 and wait_s is not None:
            self.send_header("retry-after-ms", str(1000 * wait_s))
        self.end_headers()
        self.wfile.write(answer.body)


def _model_config(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "config.json").read_text())


def _end_tokens(config: dict[str, Any]) -> frozenset[int]:
    found = config.get("eos_token_id")
    return frozenset(found if isinstance(found, list) else [] if found is None else [found])
