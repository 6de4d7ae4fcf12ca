"""An inference server in this process, with every misbehaviour on demand.

    with InferenceServer(model_directory) as server:
        ...  # server.url; server.behaviour.raw_logprobs = True

It samples with transformers and peft, and speaks as vLLM does, and as SGLang does on `/generate`.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from retrain_test_support.inference.behaviour import Behaviour, Log
from retrain_test_support.inference.model import BASE, ReferenceModel, Sampled

_CHECKSUMS = ("/weight_checker", "/weights_checker")


class RefusedError(Exception):
    """A request that is answered with a status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class InferenceServer:
    """A running server; a context manager.

    Args:
      directory: of the model.
      behaviour: what it does wrong.
      port: 0 for a free one.
    """

    def __init__(
        self, directory: str, behaviour: Behaviour | None = None, *, port: int = 0
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.log = Log()
        self.adapters: dict[str, str] = {}
        self._model = ReferenceModel(directory)
        self._lock = threading.Lock()
        self._closed = False
        self._http = _Http(("127.0.0.1", port), self)
        self.port: int = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True  # connections that are kept alive outlast the server
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Accept requests, and answer none until the context is left."""
        with self._lock:
            yield

    def answer(self, path: str, body: dict[str, Any] | None) -> Any:
        """The JSON, or the text, that answers a request; one at a time.

        Raises:
          RefusedError: it is refused.
          ConnectionError: the connection breaks.
        """
        with self._lock:
            self.log.calls[path] += 1
            self._fail()
            if path == "/v1/models":
                return self._models()
            if body is None:
                raise RefusedError(404, "Not Found")
            self.log.bodies.append(body)
            if path.endswith("load_lora_adapter"):
                return self._lora(path, body)
            if path == "/v1/completions":
                return self._openai(body)
            if path == "/generate":
                return self._sglang(body)
            if path in _CHECKSUMS and self.behaviour.checksums:
                sums = self._model.checksums()
                return {"checksums": sums, "ranks": [{"checksums": sums}]}
            raise RefusedError(404, "Not Found")

    def _fail(self) -> None:
        behaviour, done = self.behaviour, self.log.calls
        dead = behaviour.drop_after is not None and done["completions"] >= behaviour.drop_after
        if dead or self._closed:
            raise ConnectionError
        if behaviour.busy:
            behaviour.busy -= 1
            if not behaviour.busy_status:
                raise ConnectionError
            raise RefusedError(behaviour.busy_status, "busy")

    def _models(self) -> Any:
        rows = [{"id": self.behaviour.name, "parent": None, "max_model_len": self._model.context}]
        adapters = [{"id": name, "parent": self.behaviour.name} for name in self.adapters]
        return {"object": "list", "data": rows + adapters}

    def _lora(self, path: str, body: dict[str, Any]) -> str:
        name = body["lora_name"]
        if not self.behaviour.lora:
            raise RefusedError(404, "Not Found")
        if path.endswith("/unload_lora_adapter"):
            if name not in self.adapters:
                raise RefusedError(404, f"The lora adapter '{name}' cannot be found.")
            del self.adapters[name]
            self.log.unloaded.append(name)
            if not self.behaviour.stale:
                self._model.unload(name)
            return f"Success: LoRA adapter '{name}' removed successfully."
        if name in self.adapters:
            raise RefusedError(400, f"The lora adapter '{name}' has already been loaded.")
        config = Path(body["lora_path"]) / "adapter_config.json"
        rank = json.loads(config.read_text("utf-8"))["r"]
        if rank > self.behaviour.largest_rank:
            most = self.behaviour.largest_rank
            raise RefusedError(400, f"LoRA rank {rank} is greater than max_lora_rank {most}.")
        self._model.load(name, body["lora_path"])
        self.adapters[name] = body["lora_path"]
        self.log.loaded.append(name)
        return f"Success: LoRA adapter '{name}' added successfully."

    def _sample(self, adapter: str, prompt: Any, count: int, **settings: Any) -> list[Sampled]:
        if not isinstance(prompt, str) and not self.behaviour.takes_ids:
            raise RefusedError(400, "Token id prompts are not supported.")
        used = self.log.loaded[0] if self.behaviour.stale and adapter else adapter
        self.log.calls["completions"] += 1
        if not self.behaviour.seeds:
            settings["seed"] += self.log.calls["completions"]
        return self._model.sample(
            self._encoded(prompt), count, adapter=used if self.behaviour.bound else BASE, **settings
        )

    def _encoded(self, prompt: Any) -> list[int]:
        if not isinstance(prompt, str):
            return prompt
        extra = self.behaviour.extra_token
        return [*([] if extra is None else [extra]), *self._model.encode(prompt)]

    def _openai(self, body: dict[str, Any]) -> Any:
        name = body["model"]
        if name not in {self.behaviour.name, *self.adapters}:
            raise RefusedError(404, f"The model `{name}` does not exist.")
        rows = self._sample(
            "" if name == self.behaviour.name else name,
            body["prompt"],
            body.get("n", 1),
            max_tokens=body["max_tokens"],
            temperature=body["temperature"],
            stop=body.get("stop_token_ids", []),
            seed=body["seed"],
        )
        choices = [self._choice(index, row) for index, row in enumerate(rows)]
        usage = {"prompt_tokens": len(self._encoded(body["prompt"]))}
        return {"object": "text_completion", "choices": self._some(choices), "usage": usage}

    def _choice(self, index: int, row: Sampled) -> dict[str, Any]:
        ids = self._ids(row)
        choice = {
            "index": index,
            "text": "",
            "finish_reason": row.finished,
            "token_ids": ids,
            "logprobs": {
                "token_logprobs": self._logprobs(row),
                "tokens": [f"token_id:{token}" for token in ids],
            },
        }
        if self.behaviour.token_texts:
            choice["logprobs"]["tokens"] = [self._model.text(token) for token in ids]
        if self.behaviour.ids_as_text or self.behaviour.token_texts:
            del choice["token_ids"]
        return {key: value for key, value in choice.items() if key not in self.behaviour.without}

    def _sglang(self, body: dict[str, Any]) -> Any:
        settings = body["sampling_params"]
        rows = self._sample(
            body.get("lora_path", ""),
            body.get("text") or body["input_ids"],
            settings["n"],
            max_tokens=settings["max_new_tokens"],
            temperature=settings["temperature"],
            stop=settings["stop_token_ids"],
            seed=settings["sampling_seed"],
        )
        answers = [
            {
                "output_ids": self._ids(row),
                "meta_info": {
                    "prompt_tokens": len(self._encoded(body.get("text") or body["input_ids"])),
                    "finish_reason": {"type": row.finished},
                    "output_token_logprobs": [
                        [logprob, token, None]
                        for logprob, token in zip(self._logprobs(row), self._ids(row), strict=True)
                    ],
                },
            }
            for row in rows
        ]
        return answers if len(answers) > 1 else answers[0]

    def _some(self, choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not self.behaviour.halves:
            return choices
        self.behaviour.halves -= 1
        return choices[: len(choices) // 2]

    def _ids(self, row: Sampled) -> list[int]:
        return [token + self.behaviour.id_offset for token in row.tokens]

    def _logprobs(self, row: Sampled) -> list[float]:
        values = row.raw if self.behaviour.raw_logprobs else row.tempered
        added = self.behaviour.shift + self.behaviour.drift * self.log.calls["completions"]
        return [float("nan") if self.behaviour.nan else x + added for x in values]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], owner: InferenceServer) -> None:
        self.owner = owner
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: dict[str, Any] | None) -> None:
        owner = cast("_Http", self.server).owner
        try:
            answer = owner.answer(self.path, body)
        except RefusedError as error:
            told = {"error": {"message": str(error), "code": error.status}}
            self._send(error.status, json.dumps(told), "application/json")
        except ConnectionError:
            self.close_connection = True
        else:
            if isinstance(answer, str):
                self._send(200, answer, "text/plain")
            elif owner.behaviour.broken and body is not None:
                owner.behaviour.broken -= 1
                self._send(200, json.dumps(answer)[:-9], "application/json")
            else:
                self._send(200, json.dumps(answer), "application/json")

    def handle(self) -> None:
        """Serve a connection until the client goes away."""
        with suppress(ConnectionError):
            super().handle()

    def _send(self, status: int, text: str, kind: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Write nothing."""
