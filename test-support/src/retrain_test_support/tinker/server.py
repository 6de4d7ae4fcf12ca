"""A small Tinker service in this process, for tests of what talks to one.

    with TinkerServer(vocabulary=64, failures=Failures(error_share=0.3)) as server:
        client = tinker.ServiceClient(base_url=server.url, api_key="tml-any")

It speaks the wire format of the official SDK, 0.24 to 0.38, over real HTTP, and really trains: a
bigram model with a low-rank adapter (`tinker_policy`), whose gradients, Adam steps, samples and
checkpoints are exact. `Failures` makes the way to it bad, `Behaviour` sets where services differ.
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

from retrain_test_support.tinker.api import JSON, Answer, ApiError, Request
from retrain_test_support.tinker.failures import Failures, Fate, Kind
from retrain_test_support.tinker.futures import Promises
from retrain_test_support.tinker.models import (
    Behaviour,
    Executed,
    Holdings,
    Journal,
    World,
)
from retrain_test_support.tinker.policy import Adapter, BigramPolicy
from retrain_test_support.tinker.routes import Routes

__all__ = ["MODEL_NAME", "Behaviour", "Executed", "Failures", "Kind", "TinkerServer"]

MODEL_NAME = "retrain/bigram"


class TinkerServer:
    """A running service; a context manager.

    Args:
      model_dir: a model's directory, served under its own path: its `config.json` gives the number
        of tokens, the length of the context and the token that ends a text. None: only `MODEL_NAME`
        is served.
      vocabulary: number of tokens; None takes the model's, or 64.
      failures: what goes wrong.
      behaviour: where services differ.
      seed: decides the base model's weights.
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
        self._journal = Journal()
        names = (MODEL_NAME,) if model_dir is None else (MODEL_NAME, str(model_dir))
        tokens = vocabulary or config.get("vocab_size", 64)
        self._promises = Promises(self._journal.errors.append)
        self._holdings = Holdings(tokens, names, self._promises)
        self._policy = policy or BigramPolicy(tokens, seed)
        world = World(
            policy=self._policy,
            eos=_end_tokens(config),
            holdings=self._holdings,
            failures=self.failures,
            journal=self._journal,
            behaviour=self.behaviour,
        )
        self._http = _Http(Routes(world), world)
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
        self._promises.close()
        if self._journal.errors and error is None:
            raise RuntimeError("the test server broke") from self._journal.errors[0]

    @property
    def policy(self) -> BigramPolicy:
        """The base model."""
        return self._policy

    @property
    def log(self) -> list[Executed]:
        """Everything done so far, in order."""
        return list(self._journal.log)

    def executed(self, what: str, model_id: str | None = None) -> list[Executed]:
        """What of one sort was done, for one model or for all.

        Args:
          what: create_session, create_model, forward, forward_backward, optim_step, sample, load,
            publish (a sampler of the current weights), save_weights, save_sampler_weights or
            save_external_weights.
          model_id: a training client's model.
        """
        return [
            each
            for each in self._journal.log
            if each.what == what and model_id in (None, each.model_id)
        ]

    @property
    def most_samples_at_once(self) -> int:
        """The largest number of `sample` requests that were under way together."""
        return self._journal.most_at_once["sample"]

    @property
    def seeds(self) -> list[int | None]:
        """The seeds of all samples drawn."""
        return [each.details["seed"] for each in self.executed("sample")]

    @property
    def ttl_seconds(self) -> list[int | None]:
        """The time to live of every checkpoint saved."""
        saves = [each for each in self._journal.log if each.what.startswith("save_")]
        return [each.details["ttl_seconds"] for each in saves]

    def adapter(self, model_id: str) -> Adapter:
        """A model's trained weights."""
        return self._holdings.models[model_id].adapter

    def digest(self, model_id: str) -> str:
        """A fingerprint of a model's trained weights."""
        adapter = self.adapter(model_id)
        return hashlib.sha256(adapter.a_VR.tobytes() + adapter.b_RV.tobytes()).hexdigest()

    def forget_sessions(self) -> None:
        """Lose all sessions, models and samplers, as the service may; checkpoints stay."""
        self._holdings.forget_sessions()


class _Http(ThreadingHTTPServer):
    """The HTTP side: threads, connections, and failures on the way."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, routes: Routes, world: World) -> None:
        self.routes = routes
        self.world = world
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
        # Clients keep connections open; their threads wait for requests that will not come.
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        # A client that went away is no error of the server's.
        if error is not None and not isinstance(error, OSError):
            self.world.journal.errors.append(error)
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
        """Say nothing; `Journal` keeps what matters."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # A border: what the API refuses is an answer.
        try:
            route, groups = self._http.routes.find(self.command, urlsplit(self.path).path)
            if route.kind is not Kind.FILE:
                self._check_key()
            fate = self._http.world.failures.fate(route.kind)
            if isinstance(fate, int):
                raise ApiError(fate, "made to fail by the test")
            if fate is Fate.DROPPED:
                self._drop()
                return
            answer = route.handler(self._request(body, groups))
            if fate is Fate.ANSWER_LOST:
                self._drop()
                return
            self._send(302 if answer.location else 200, answer)
        except ApiError as error:
            self._send(error.status, Answer(json.dumps({"detail": str(error)}).encode(), JSON))

    def _request(self, body: bytes, groups: tuple[str, ...]) -> Request:
        return Request(body, self.headers.get_content_type(), groups, self.headers["Host"])

    def _check_key(self) -> None:
        key = self._http.world.behaviour.key
        if key is not None and self.headers.get("X-API-Key") != key:
            raise ApiError(401, "invalid API key")

    def _drop(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, answer: Answer) -> None:
        self.send_response(status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.location:
            self.send_header("Location", answer.location)
        # The SDK asks for this over a connection that it does not use again and never closes.
        if self.path.endswith("/client/config"):
            self.send_header("Connection", "close")
        wait_s = self._http.world.failures.retry_after_s
        if status >= 400 and wait_s is not None:
            self.send_header("retry-after-ms", str(1000 * wait_s))
        self.end_headers()
        self.wfile.write(answer.body)


def _model_config(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "config.json").read_text())


def _end_tokens(config: dict[str, Any]) -> frozenset[int]:
    found = config.get("eos_token_id")
    return frozenset(found if isinstance(found, list) else [] if found is None else [found])
